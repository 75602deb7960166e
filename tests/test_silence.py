"""The arithmetic of a server that stops answering, by a clock of the test's own."""

from __future__ import annotations

import pytest

from resources.teacher.silence import Record, Silence


def after(slowest: float) -> Silence:
    """One whose last answer came at 100 s; its slowest one had taken so long."""
    silence = Silence(Record())
    silence.alive_at = 100.0 - slowest
    silence.note_sent(99.0)
    silence.note_reply(100.0 - slowest, 100.0, is_answer=True)
    return silence


def test_a_server_is_probed_after_its_slowest_answer_and_then_every_five_seconds() -> None:
    assert Silence(Record()).probe_at() == float("inf")  # who has not answered yet may be slow
    assert after(2.0).probe_at() == 105.0
    silence = after(40.0)
    assert silence.probe_at() == 160.0
    silence.note_sent(160.0)
    assert silence.probe_at() == 165.0


def test_older_requests_lose_their_place_when_a_probe_is_answered_and_hang_later() -> None:
    silence = after(2.0)
    sent = [99.0, 100.5, 105.0, 110.0]
    assert silence.count_placed(sent) == 4
    silence.note_reply(110.0, 111.0, is_answer=True)
    assert silence.count_placed(sent[:3]) == 0
    for sent_at in sent[:3]:  # the first probe hangs as well
        assert not silence.hangs(sent_at, 112.9)  # the server may still answer it: its slowest answer took 2 s
        assert silence.hangs(sent_at, 113.0)
    assert not silence.hangs(110.5, 200.0)
    assert silence.count_placed([111.0]) == 1
    assert not silence.hangs(99.0, 200.0)  # over


def test_a_server_that_froze_and_answers_what_it_has_is_given_time() -> None:
    silence = after(2.0)
    silence.note_reply(99.0, 130.0, is_answer=True)
    assert silence.count_placed([99.5, 125.0]) == 2
    silence.note_reply(125.0, 131.0, is_answer=True)
    assert not silence.hangs(99.5, 161.0)
    assert silence.hangs(99.5, 162.0)  # its slowest answer took 31 s


@pytest.mark.parametrize("latency", [0.5, 10.0, 90.0])
def test_nothing_hangs_while_a_server_answers_at_its_own_pace(latency: float) -> None:
    """Eight at a time, each taking between half of the latency and all of it."""
    silence = after(latency)
    in_flight = [(100.0, 100.0 + latency * (1 + place / 8) / 2) for place in range(8)]
    for turn in range(200):
        in_flight.sort(key=lambda request: request[1])
        sent_at, now = in_flight.pop(0)
        silence.note_reply(sent_at, now, is_answer=True)
        assert not any(silence.hangs(sent_at, now) for sent_at, _ in in_flight)
        assert silence.count_placed([sent_at for sent_at, _ in in_flight]) == 7
        in_flight.append((now, now + latency * (1 + turn % 8 / 8) / 2))


def test_a_refusal_says_nothing_about_the_time_of_an_answer() -> None:
    silence = Silence(Record())
    silence.note_reply(99.0, 100.0, is_answer=False)
    assert silence.probe_at() == float("inf")
