from commonlore.peer.asking.prompt_prefixes import MAX_PREFIXES, prompt_prefixes
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.ids import cid_of
from commonlore.protocol.requests.records import ChatMessage

BASE, OTHER = cid_of(b"base"), cid_of(b"other")
TURNS = [
    ChatMessage("user", "What is E11.9?"),
    ChatMessage("assistant", "A code."),
    ChatMessage("user", "Of what?"),
]


def test_a_conversation_begins_with_its_past():
    before, after = prompt_prefixes(TURNS[:1], BASE, ()), prompt_prefixes(TURNS, BASE, ())
    assert before[-1] == after[0]
    assert [tokens for _, tokens in after] == sorted(tokens for _, tokens in after)


def test_names_tell_caches_apart():
    weights = (AdapterWeight(OTHER, 1_000_000),)
    names = {
        prompt_prefixes(turns, base, adapters)[-1][0]
        for turns in (TURNS, [ChatMessage("user", "What is E11.9"), ChatMessage("user", "?")])
        for base in (BASE, OTHER)
        for adapters in ((), weights)
    }
    assert len(names) == 8


def test_a_long_conversation_keeps_its_last_beginnings():
    assert len(prompt_prefixes(TURNS * 10, BASE, ())) == MAX_PREFIXES
