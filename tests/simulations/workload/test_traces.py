import json

import pytest

from commonlore.simulations.experiment.models import Scenario, WorkModel
from commonlore.simulations.experiment.tables import WrongKey
from commonlore.simulations.workload.arrivals import draw_workload
from commonlore.simulations.workload.traces import read_trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,55
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "azure.csv").write_text(AZURE)
    entries = [
        {"timestamp": at, "input_length": 6_758, "output_length": 500, "hash_ids": [1]} for at in (0, 27_482)
    ]
    (tmp_path / "mooncake.jsonl").write_text("\n".join(map(json.dumps, entries)))
    (tmp_path / "plain.csv").write_text("output_tokens,arrival_s,prompt_tokens\n3,1.5,2\n5,0.5,4\n")
    return tmp_path


@pytest.mark.parametrize(
    ("trace", "arrivals", "prompts", "outputs"),
    [
        ("azure:azure.csv", [0, 4_314_579, 4_541_877], [374, 396, 879], [44, 109, 55]),
        ("mooncake:mooncake.jsonl", [0, 27_482_000], [6_758, 6_758], [500, 500]),
        ("csv:plain.csv", [0, 1_000_000], [4, 2], [5, 3]),
    ],
)
def test_formats(files, trace, arrivals, prompts, outputs):
    form, _, name = trace.partition(":")
    read = read_trace(f"{form}:{files / name}")
    assert read.arrival_us.tolist() == pytest.approx(arrivals, abs=1)
    assert read.prompt_tokens.tolist() == prompts
    assert read.output_tokens.tolist() == outputs


@pytest.mark.parametrize(
    ("form", "text", "line"),
    [
        ("csv", "arrival_s,prompt_tokens,output_tokens\n0,1,2\n1e300,3,4\n", 3),
        ("csv", f"arrival_s,prompt_tokens,output_tokens\n0,{10**30},2\n", 2),
        ("mooncake", '{"timestamp": 0, "input_length": Infinity, "output_length": 1}\n', 1),
    ],
)
def test_numbers_beyond_all_measure_are_refused(tmp_path, form, text, line):
    (tmp_path / "trace").write_text(text)
    with pytest.raises(WrongKey, match=f"trace, line {line}: not a request"):
        read_trace(f"{form}:{tmp_path / 'trace'}")


def test_a_mark_of_the_byte_order_is_no_part_of_a_column(tmp_path):
    (tmp_path / "trace").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,2\n", encoding="utf-8-sig")
    assert read_trace(f"csv:{tmp_path / 'trace'}").output_tokens.tolist() == [2]


def test_a_file_that_was_changed_is_read_again(files):
    name = f"csv:{files / 'plain.csv'}"
    assert read_trace(name) is read_trace(name)
    (files / "plain.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,2\n")
    assert read_trace(name).prompt_tokens.tolist() == [1]


def test_a_trace_is_a_workload(files):
    work = WorkModel(trace=f"azure:{files / 'azure.csv'}", trace_speedup=2.0, max_prompt=500)
    drawn = draw_workload(Scenario("t", "", duration_ms=2_200, warmup_ms=0, work=work), 1)
    assert drawn.arrival_us == pytest.approx([0, 2_157_289], abs=1)
    assert drawn.prompt_tokens == [374, 396]
    assert drawn.output_tokens == [44, 109]
