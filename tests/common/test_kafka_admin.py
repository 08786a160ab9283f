from libs.common.adapters.kafka_admin import session_ms
from libs.common.topics import METRICS_SAMPLES, PREDICTOR_SNAPSHOTS


def test_a_session_is_the_one_asked_for_where_the_broker_allows_it() -> None:
    assert session_ms(asked_ms=2000, minimum_ms=500) == 2000
    assert session_ms(asked_ms=2000, minimum_ms=6000) == 6000


def test_samples_bear_the_time_of_the_broker() -> None:
    assert METRICS_SAMPLES.config()["message.timestamp.type"] == "LogAppendTime"
    assert "message.timestamp.type" not in PREDICTOR_SNAPSHOTS.config()
