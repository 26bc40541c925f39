"""The worker's log of asks for whoever studies it."""

import json
from dataclasses import replace

from commonlore.peer.serving.request_log import RequestLog, ServedTimes


async def test_an_answer_leaves_one_line_without_its_words(pair, tmp_path):
    path = tmp_path / "logs" / "requests.jsonl"
    async with pair() as two:
        two.service._serving = replace(two.service._serving, request_log=RequestLog(path))
        await two.ask()
        await two.idle()
    (line,) = path.read_text().splitlines()
    entry = json.loads(line)
    counts = ("running", "held", "adapter", "prompt_tokens", "delivered", "output_tokens", "finish")
    assert [entry[name] for name in counts] == [1, True, None, 7, 0, 6, "length"]
    assert 0 <= entry["ready_ms"] <= entry["first_ms"] <= entry["last_ms"]
    assert "how much" not in line


def test_without_a_file_nothing_is_written(tmp_path):
    RequestLog().note(ServedTimes(0, 1, True))
    assert list(tmp_path.iterdir()) == []
