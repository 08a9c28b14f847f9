"""The door, the greeting and the watch: sockets of this machine, no jax."""

import json
import socket
import threading
import time

import pytest

from lpml.parallel import meeting as meetings
from lpml.parallel.meeting import Meeting, Peers, ProcessFailure, knock, open_door
from lpml.parallel.relay import free_port, hang_up, read_line, relay

CONFIG = '{"seed": 1}'


@pytest.fixture
def at():
    """Meetings at one free port, of which each process makes its own."""
    port = free_port()

    def meeting(process, processes=2, wait_s=5.0):
        return Meeting("127.0.0.1", port, processes, process, wait_s)

    return meeting


class Losses(list):
    def __init__(self):
        super().__init__()
        self.seen = threading.Event()

    def __call__(self, reason, gave_up):
        assert gave_up == ("gave up" in reason)
        self.append(reason)
        self.seen.set()


def met(at, service=1):
    """Both sides of a meeting of two: watches, what they say is lost, and the door."""
    losses = [Losses(), Losses()]
    peers = [Peers(heard) for heard in losses]
    doors = []
    opening = threading.Thread(
        target=lambda: doors.append(open_door(at(0), CONFIG, service, peers[0]))
    )
    opening.start()
    knock(at(1), CONFIG, peers[1])
    opening.join(10)
    return peers, losses, doors[0]


def link(peers):
    (connection,) = peers._links.values()
    return connection


def part(peers, door):
    """Ends a meeting whose connections still stand."""
    for side in peers:
        side.goodbye()
        hang_up(link(side))
    hang_up(door)


def test_a_goodbye_is_no_loss(at):
    peers, losses, door = met(at)
    for side in peers:
        side.goodbye()
    part(peers, door)
    assert losses == [[], []]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_connection_that_closes_is_a_loss(at, lost):
    peers, losses, door = met(at)
    link(peers[lost]).shutdown(socket.SHUT_RDWR)
    assert losses[1 - lost].seen.wait(10)
    assert losses[1 - lost] == [f"process {lost} was lost"]
    part(peers, door)


def test_silence_is_a_loss(at, monkeypatch):
    monkeypatch.setattr(meetings, "PING_S", 3600)
    monkeypatch.setattr(meetings, "SILENCE_S", 0.1)
    peers, losses, door = met(at)
    for heard in losses:
        assert heard.seen.wait(10)
    assert losses[0] == ["process 1 was lost"]
    part(peers, door)


def test_who_says_something_is_not_lost(at, monkeypatch):
    monkeypatch.setattr(meetings, "PING_S", 0.01)
    monkeypatch.setattr(meetings, "SILENCE_S", 1.0)
    peers, losses, door = met(at)
    assert not losses[0].seen.wait(1.5)
    assert losses == [[], []]
    part(peers, door)


def test_a_failure_is_told_in_one_line(at):
    peers, losses, door = met(at)
    peers[0].fail("the disk\nis full")
    assert losses[1].seen.wait(10)
    assert losses[1] == ["process 0 gave up (the disk is full)"]
    part(peers, door)


def test_who_knocks_before_the_door_is_there_waits(at):
    peers = [Peers(Losses()), Peers(Losses())]
    early = threading.Thread(target=knock, args=(at(1), CONFIG, peers[1]))
    early.start()
    time.sleep(0.3)
    door = open_door(at(0), CONFIG, 1, peers[0])
    early.join(10)
    assert not early.is_alive()
    part(peers, door)


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (dict(process=1, processes=3, config=CONFIG), "another command than process 0"),
        (dict(process=1, processes=2, config="{}"), "another command than process 0"),
    ],
)
def test_who_does_not_belong_is_refused_on_both_sides(at, hello, words):
    refusals = []

    def opening():
        with pytest.raises(ProcessFailure) as refusal:
            open_door(at(0), CONFIG, 1, Peers(Losses()))
        refusals.append(str(refusal.value))

    thread = threading.Thread(target=opening)
    thread.start()
    with pytest.raises(ProcessFailure, match=words):
        knock(at(hello["process"], hello["processes"]), hello["config"], Peers(Losses()))
    thread.join(10)
    assert words in refusals[0]


def test_two_of_one_number_are_refused(at):
    said = []

    def guest():
        with pytest.raises(ProcessFailure) as refusal:
            knock(at(1, 3), CONFIG, Peers(Losses()))
        said.append(str(refusal.value))

    guests = [threading.Thread(target=guest) for _ in range(2)]
    for thread in guests:
        thread.start()
    with pytest.raises(ProcessFailure, match="two processes have --process_id=1"):
        open_door(at(0, 3), CONFIG, 1, Peers(Losses()))
    for thread in guests:
        thread.join(10)
    assert len(said) == 2
    assert all("two processes have --process_id=1" in text for text in said)


def test_strangers_at_the_door_are_passed_over(at):
    def stranger():
        for words in (b"GET / HTTP/1.1\n", json.dumps([1]).encode() + b"\n", b""):
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", at(0).port)) as link:
                        link.sendall(words)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)

    thread = threading.Thread(target=stranger)
    thread.start()
    peers, losses, door = met(at)
    thread.join(10)
    assert len(peers) == 2
    assert losses == [[], []]
    part(peers, door)


def test_the_relay_carries_both_ways_and_stays_open_when_its_target_goes(at):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = relay(server.getsockname()[:2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as near:
            far = server.accept()[0]
            near.sendall(b"there\n")
            far.settimeout(10)
            assert read_line(far) == "there"
            far.sendall(b"back\n")
            assert read_line(near) == "back"
            far.close()
            near.settimeout(0.5)
            with pytest.raises(TimeoutError):  # and not the end of the connection
                near.recv(1)


def test_the_door_leads_later_connections_to_the_service(at):
    with socket.create_server(("127.0.0.1", 0)) as service:
        peers, _, door = met(at, service.getsockname()[1])
        with socket.create_connection(("127.0.0.1", at(0).port), timeout=10) as near:
            near.sendall(b"jax\n")
            far = service.accept()[0]
            far.settimeout(10)
            assert read_line(far) == "jax"
            far.close()
        part(peers, door)
