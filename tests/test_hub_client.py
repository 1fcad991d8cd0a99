"""The client behind the Hub's libraries: what passes is repeated, what breaks off goes on, what hangs is given up."""

import re
import threading
from collections.abc import Iterator

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import get_session, httpx

from stages.download.hub_client import Unreachable, is_hub, open_session
from tests.hub import Fault, Hub
from tests.repositories import NEW, OLD

CONTENT = bytes(index * index % 251 for index in range(300_000))
SMALL = CONTENT[:1000]
GET = ("GET",)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub({("model", "someone/model"): {OLD: {"weights.bin": CONTENT, "small.txt": SMALL}}}) as hub:
        yield hub


def address(hub: Hub, file: str) -> str:
    return f"{hub.endpoint}/someone/model/resolve/{OLD}/{file}"


def fetch(hub: Hub, file: str = "weights.bin", seconds: float = 10) -> bytes:
    """Streams a file as the Hub's libraries do."""
    with open_session(seconds), get_session().stream("GET", address(hub, file)) as response:
        return response.read()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("", status=500, times=2),
        Fault("", status=429, headers={"Retry-After": "1"}, times=1),
        Fault("", status=429, headers={"RateLimit": '"api";r=0;t=1'}, times=1),
        Fault("", keep=0, reset=True, times=1),
        Fault("", keep=100_001, reset=True, times=1),
        Fault("", keep=70_000, times=2),
    ],
    ids=["500", "429", "429 as the Hub says it", "reset at once", "reset in the middle", "cut off twice"],
)
@pytest.mark.parametrize("ranges", [True, False], ids=["with parts", "without parts"])
def test_what_passes_is_repeated_until_all_bytes_have_come(fault: Fault, ranges: bool, hub: Hub) -> None:
    hub.faults, hub.ranges = [Fault(**vars(fault))], ranges
    assert fetch(hub) == CONTENT


def test_what_has_come_is_not_asked_for_again(hub: Hub) -> None:
    hub.faults = [Fault("", keep=100_000, times=2)]
    assert fetch(hub) == CONTENT
    assert [request.range for request in hub.seen] == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_answer_that_will_not_change_is_asked_for_once(status: int, hub: Hub) -> None:
    hub.faults = [Fault("", status=status)]
    with open_session(10):
        assert get_session().get(address(hub, "small.txt")).status_code == status
    assert len(hub.seen) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            Fault("", silent=True),
            r"small.txt: timed out \(\d+ attempts in \d+ s; execution.network_timeout_seconds: 1\); ",
        ),
        (
            Fault("", dribble=0.02),
            r"small.txt: no complete answer \(1 attempt in 1 s; execution.network_timeout_seconds: 1\)",
        ),
        (Fault("", trickle=0.05), r"small.txt: too slow \(\d+ bytes came, 1 attempt in 1 s; "),
        (Fault("", keep=10, stall=True), r"small.txt: timed out \(\d+ bytes came, \d+ attempts in \d+ s; "),
        (Fault("", status=503), r"small.txt: the answer was 503 Service Unavailable \(2 attempts in \d+ s; "),
        (
            Fault("", status=429, headers={"Retry-After": "300"}),
            r"small.txt: the answer was 429 Too Many Requests, and it asks to wait 300 s \(1 attempt in 0 s; ",
        ),
        (Fault("", keep=0, reset=True), r"small.txt: .* \(2 attempts in \d+ s; "),
        (
            Fault("", headers={"X-Repo-Commit": NEW}),
            f"small.txt: asked for commit {OLD}, but the answer is for {NEW}; check that HF_ENDPOINT is the Hub or a",
        ),
    ],
    ids=["silent", "headers without end", "a byte now and then", "stalled", "503", "429", "reset", "another commit"],
)
def test_what_hangs_or_fails_for_good_is_given_up_with_what_came_of_it(fault: Fault, message: str, hub: Hub) -> None:
    hub.faults, hub.ranges = [fault], False
    with pytest.raises(Unreachable, match=message):
        fetch(hub, "small.txt", seconds=1)


def test_nobody_without_a_network_waits_for_long() -> None:
    with Hub({}) as hub:
        pass  # its port is closed from here on
    with pytest.raises(Unreachable, match=r"Connection refused \(3 attempts in \d s\); check the network"):
        fetch(hub, seconds=1000)


def test_an_address_that_is_none_is_not_tried_again() -> None:
    with open_session(1000), pytest.raises(httpx.UnsupportedProtocol):
        get_session().get("hub.example.org/someone/model")


def test_a_slow_transfer_that_is_alive_is_not_cut(hub: Hub) -> None:
    """A thousand bytes at some 500 a second take two time limits."""
    hub.faults = [Fault("", trickle=0.002)]
    assert fetch(hub, "small.txt", seconds=1) == SMALL


def test_starting_over_and_over_is_given_up_though_bytes_come(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot send parts, and breaks off at the same place each time, brings nothing new."""
    monkeypatch.setattr("stages.download.hub_client.FIRST_PAUSE_SECONDS", 0.001)
    hub.faults, hub.ranges = [Fault("", keep=200_000)], False
    with pytest.raises(Unreachable, match=r"200000 bytes came, 12 attempts in \d+ s\); "):
        fetch(hub, seconds=1000)


def test_the_first_request_that_is_given_up_ends_the_others(hub: Hub) -> None:
    hub.faults = [Fault("weights", trickle=0.01)]
    ended: list[str] = []

    def wait_for_all() -> None:
        try:
            get_session().get(address(hub, "weights.bin"))
        except Unreachable as error:
            ended.append(str(error))

    with open_session(1000) as session:
        thread = threading.Thread(target=wait_for_all)
        thread.start()
        while not hub.seen:
            assert thread.is_alive()
        with pytest.raises(Unreachable):
            raise session.fail("another file: lost", "go home")
        thread.join(30)
    assert ended == ["another file: lost; go home"]


def test_a_file_at_the_storage_host_is_called_by_its_name_and_its_signature_is_not_told(hub: Hub) -> None:
    hub.repositories["model", "someone/model"][OLD]["model.safetensors"] = CONTENT
    hub.storage = True
    hub.faults = [Fault("/storage/", status=500)]
    with open_session(1), pytest.raises(Unreachable, match=r"model.safetensors: the answer was 500") as raised:
        head = get_session().head(address(hub, "model.safetensors"), follow_redirects=False)
        get_session().get(head.headers["Location"])
    assert not re.search("signature|storage", str(raised.value))


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("http://127.0.0.1:{port}", "Bearer secret"),
        ("http://localhost:{port}", None),  # the same machine, another host
        ("http://127.0.0.1:{other}", None),
        ("http://someone:sesame@127.0.0.1:{other}", None),
    ],
    ids=["the Hub", "another host", "another port", "another port with a name"],
)
def test_credentials_go_to_the_hubs_own_host_and_port_alone(
    place: str, told: str | None, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    ports = {"port": hub.endpoint.rpartition(":")[2], "other": hub.storage_host.rpartition(":")[2]}
    with open_session(5):
        headers = {"Authorization": "Bearer secret", "Cookie": "session=secret"}
        get_session().get(f"{place.format(**ports)}/x", headers=headers)
    assert [request.authorization for request in hub.seen] == [told]


def test_another_scheme_is_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example.org")
    own = ("https://hub.example.org/x", "https://HUB.example.org:443/x", "https://someone@hub.example.org/x")
    others = ("http://hub.example.org/x", "https://hub.example.org:444/x", "https://hub.example.org.evil.org/x")
    assert all(is_hub(httpx.URL(url)) for url in own)
    assert not any(is_hub(httpx.URL(url)) for url in others)
