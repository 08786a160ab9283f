import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from libs.common.errors import ContractError
from services.load.core.arrivals import Arrivals, Prefixes, select, superpose
from services.load.core.servegen import draw
from services.load.trace_file import read_trace

FOREVER_MS = 1e12
SHARED = Path(os.environ.get("PLIMSOLL_SHARED", Path(__file__).parents[2] / ".." / "shared"))
TRACES = SHARED / "traces" / "llm"

PLAIN = "arrival_s,model,prompt_tokens,output_tokens\n0.5,chat,10,3\n0.5,chat,11,4\n2,chat,12,5\n"
BATCH = "arrival_s,model\n0,vision\n0.25,embed\n1.5,vision\n"
BURST = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45,ChatGPT,1087,0,1087,API log\n"
    "118,GPT-4,417,276,693,Conversation log\n"
)
MOONCAKE = (
    '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [7, 8]}\n'
    '{"timestamp": 27, "input_length": 100, "output_length": 1, "hash_ids": [9]}\n'
    '{"timestamp": 3000, "input_length": 1100, "output_length": 2, "hash_ids": [7, 8, 3]}\n'
)
CLIENTS = "client_id,timestamp_s,rate,cv,pattern,param1,param2\n"
LENGTHS = "client_id,window_start_s,field,mean,p50,p90,p99\n"


def read(folder: Path, content: str, model: str = "") -> Arrivals:
    path = folder / "any.name"
    path.write_text(content)
    return read_trace(path, FOREVER_MS, model)


def test_our_plain_format_keeps_its_times_from_the_start_of_the_load(tmp_path: Path) -> None:
    trace = read(tmp_path, PLAIN)
    assert trace.at_ms.tolist() == [500.0, 500.0, 2000.0]
    assert trace.prompt_tokens.tolist() == [10, 11, 12]
    assert trace.output_tokens.tolist() == [3, 4, 5]
    assert trace.prompt_tokens.dtype == np.int32
    assert trace.source.endswith("any.name")


def test_windows_line_ends_and_empty_lines_do_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + PLAIN.replace("\n", "\r\n") + "\r\n").at_ms.tolist() == [
        500.0,
        500.0,
        2000.0,
    ]


def test_a_file_of_several_models_gives_those_of_the_one_asked_for(tmp_path: Path) -> None:
    assert read(tmp_path, BATCH, "vision").at_ms.tolist() == [0.0, 1500.0]
    assert read(tmp_path, BATCH, "embed").at_ms.tolist() == [250.0]
    assert not read(tmp_path, BATCH, "embed").output_tokens.any()
    with pytest.raises(
        ContractError, match=r"any.name:1: .* 2 models, embed, vision, none of chat"
    ):
        read(tmp_path, BATCH, "chat")


def test_a_file_of_one_model_may_call_it_otherwise(tmp_path: Path) -> None:
    assert len(read(tmp_path, PLAIN, "assistant").at_ms) == 3


def test_burstgpt_counts_from_its_first_request_and_leaves_failures_out(tmp_path: Path) -> None:
    trace = read(tmp_path, BURST)
    assert trace.at_ms.tolist() == [0.0, 113_000.0]
    assert trace.output_tokens.tolist() == [18, 276]
    assert trace.label == "BurstGPT, 1 failed requests left out"


def test_more_columns_of_a_later_burstgpt_are_passed_over(tmp_path: Path) -> None:
    later = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens\n1,a,2,G,3,4\n"
    assert read(tmp_path, later).prompt_tokens.tolist() == [3]


def test_mooncake_keeps_the_chains_of_blocks(tmp_path: Path) -> None:
    trace = read(tmp_path, MOONCAKE)
    assert trace.at_ms.tolist() == [0.0, 27.0, 3000.0]
    assert trace.prefixes is not None
    assert trace.prefixes.offsets.tolist() == [0, 2, 3, 6]
    assert trace.prefixes.blocks.tolist() == [7, 8, 9, 7, 8, 3]
    assert trace.prefixes.block_tokens == 512
    kept = select(trace, np.array([False, True, True])).prefixes
    assert kept is not None
    assert kept.blocks.tolist() == [9, 7, 8, 3]


def test_a_copy_shares_no_prefix_with_another() -> None:
    blocks = Prefixes(np.array([0, 2, 3]), np.array([4, 5, 4]), 512)
    tokens = np.array([1, 2], np.int32)
    trace = Arrivals(np.array([70_000.0, 80_000.0]), tokens, tokens, blocks, "t")
    played = superpose(trace, 3, 200_000.0, np.random.default_rng(0))
    assert played.prefixes is not None
    assert played.label == "t, 3 copies"
    by_request = np.split(played.prefixes.blocks, played.prefixes.offsets[1:-1])
    # Request 1 has two blocks, request 2 the first of them: so within each of the three copies.
    heads = [int(ids[0]) for ids in by_request]
    assert sorted(heads) == [4, 4, 10, 10, 16, 16]
    assert sorted(len(ids) for ids in by_request) == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PLAIN + "1.5,chat,1,1\n", "any.name:5: out of order of time, '1.5,chat,1,1'"),
        (PLAIN + "3,chat,-1,1\n", "any.name:5: prompt_tokens is negative, '3,chat,-1,1'"),
        (PLAIN + "3,chat,1,x\n", "any.name:5: output_tokens is not a whole number, '3,chat,1,x'"),
        (PLAIN + "3,chat,1,3000000000\n", "any.name:5: output_tokens is not below 2"),
        (PLAIN + "nan,chat,1,1\n", "any.name:5: its time is negative or no number"),
        (PLAIN + "1700000000,chat,1,1\n", "any.name:5: its time is more than a year"),
        (PLAIN + "3,,1,1\n", "any.name:5: no model is named"),
        (PLAIN + "3,chat,1\n", "any.name:5: not the 4 columns of the first line"),
        ("arrival_s,model,prompt_tokens\n", "any.name:1: expected"),
        (BURST + "x,G,1,1,2,API log\n", "any.name:5: its time is not a number of seconds"),
        (MOONCAKE + "{broken\n", "any.name:4: not a JSON object"),
        (MOONCAKE + '{"timestamp": 1}\n', "any.name:4: it has no input_length"),
        (MOONCAKE + "{}, {}\n", "any.name:4: not one JSON object"),
        (
            MOONCAKE + '{"timestamp": 1, "input_length": 1, "output_length": 1}\n',
            "any.name:4: out of order",
        ),
        (
            MOONCAKE + '{"timestamp": 3e3, "input_length": 1.5, "output_length": 1}\n',
            "any.name:4: a length is not a whole number",
        ),
        (
            MOONCAKE + '{"timestamp": 3e3, "input_length": -1, "output_length": 1}\n',
            "any.name:4: input_length is negative",
        ),
        (
            MOONCAKE
            + '{"timestamp": 3e3, "input_length": 1, "output_length": 1, "hash_ids": [-1]}\n',
            "any.name:4: hash_ids are not whole numbers",
        ),
        (CLIENTS, "any.name:2: it has no window"),
        (CLIENTS + "0,0,1,1,Gauss,1,1\n", "any.name:2: a law of unknown pattern, 'Gauss'"),
        (CLIENTS + "0,0,-1,1,Gamma,1,1\n", "any.name:2: time or rate below 0"),
        (CLIENTS + "0,0,1,1,Gamma,0,1\n", "any.name:2: a shape that is not above 0"),
        (CLIENTS + "0,0,1,1,Gamma,1\n", "any.name:2: not the columns"),
        (CLIENTS + "0,0,100000,1,Gamma,1,1\n", "any.name:1: describes 60000000 requests"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_value(
    tmp_path: Path, content: str, said: str
) -> None:
    with pytest.raises(ContractError, match=said) as refusal:
        read(tmp_path, content)
    assert "\n" not in str(refusal.value)


def test_a_fault_deep_in_a_large_file_has_its_own_line(tmp_path: Path) -> None:
    rows = [f"{i / 100},chat,{i},1" for i in range(150_000)]
    rows[123_456] = "1234.56,chat,-7,1"
    with pytest.raises(ContractError, match=r":123458: prompt_tokens is negative, '1234\.56,chat"):
        read(tmp_path, PLAIN.splitlines()[0] + "\n" + "\n".join(rows))


def test_a_zone_other_than_utc_is_refused(tmp_path: Path) -> None:
    header = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    for time in ("2024-05-10 00:00:00+02:00", "now", "NaT"):
        with pytest.raises(ContractError, match=":2: its time is not a moment in UTC"):
            read(tmp_path, f"{header}{time},1,1\n")


# --- ServeGen


def one_client(pattern: str, shape: float, rate: float = 2.0) -> list[str]:
    return [CLIENTS.strip(), *(f"c,{600 * w},{rate},1,{pattern},{shape},0.5" for w in range(20))]


@pytest.mark.parametrize(("pattern", "shape"), [("Gamma", 0.3), ("Weibull", 0.5), ("Gamma", 2.0)])
def test_the_published_rate_holds_whatever_the_law(pattern: str, shape: float) -> None:
    counts = [
        len(draw(one_client(pattern, shape), None, "t", 12e6, np.random.default_rng(seed)).at_ms)
        for seed in range(10)
    ]
    assert np.mean(counts) == pytest.approx(24_000, rel=0.03)


def test_the_law_gives_the_gaps_between_requests() -> None:
    trace = draw(one_client("Gamma", 0.25, 20.0), None, "t", 12e6, np.random.default_rng(1))
    gaps = np.diff(trace.at_ms)
    assert gaps.std() / gaps.mean() == pytest.approx(2.0, rel=0.05)  # 1 / sqrt(shape)


def test_drawn_load_is_called_synthetic_and_is_the_same_for_a_seed(tmp_path: Path) -> None:
    path = tmp_path / "x_clients.csv"
    path.write_text("\n".join(one_client("Weibull", 0.5)))
    one, two, other = (read_trace(path, 60_000.0, seed=seed) for seed in (1, 1, 2))
    assert "synthetic" in one.label
    np.testing.assert_array_equal(one.at_ms, two.at_ms)
    np.testing.assert_array_equal(one.output_tokens, two.output_tokens)
    assert one.at_ms.tolist() != other.at_ms.tolist()


def test_lengths_follow_the_table_beside_the_clients(tmp_path: Path) -> None:
    path = tmp_path / "x_clients.csv.gz"
    path.write_bytes(gzip.compress("\n".join(one_client("Gamma", 1.0, 20.0)).encode()))
    (tmp_path / "x_lengths.csv.gz").write_bytes(
        gzip.compress(
            (LENGTHS + "c,0,input_tokens,0,100,400,900\nc,0,output_tokens,0,8,9,9").encode()
        )
    )
    trace = read_trace(path, 6e6)
    assert np.quantile(trace.prompt_tokens, [0.5, 0.9]).tolist() == pytest.approx(
        [100, 400], rel=0.05
    )
    assert trace.prompt_tokens.max() == 900
    assert trace.output_tokens.min() >= 1


# --- The published files


@pytest.mark.skipif(not TRACES.exists(), reason=f"the published traces are not at {TRACES}")
@pytest.mark.parametrize(
    ("file", "requests", "prompt_mean"),
    [
        ("azure_llm_2023_conv.csv.gz", 19_366, 1155),
        ("mooncake_conversation.jsonl.gz", 12_031, 12_035),
    ],
)
def test_published_traces_read_whole(file: str, requests: int, prompt_mean: float) -> None:
    trace = read_trace(TRACES / file, FOREVER_MS)
    assert len(trace.at_ms) == requests
    assert trace.prompt_tokens.mean() == pytest.approx(prompt_mean, rel=0.001)


@pytest.mark.skipif(not TRACES.exists(), reason=f"the published traces are not at {TRACES}")
def test_servegen_gives_its_published_total_rate() -> None:
    # The busiest and the calmest of the first six windows are 7 % apart.
    trace = read_trace(TRACES / "servegen_m-large_clients.csv.gz", 540_000.0, seed=3)
    assert len(trace.at_ms) / 600 == pytest.approx(212.78, rel=0.1)
