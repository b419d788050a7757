"""The docker command: each way in which it can be unavailable has its own words and its own fix."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ops.docker import DaemonDown, DaemonForbidden, DockerCli, DockerError, DockerMissing, DockerTimeout, Result
from ops.errors import OpsError

# As printed by docker 20.10, 28.2 and 29 on Linux.
DOWN = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct and if the "
    "daemon is running: dial unix /var/run/docker.sock: connect: no such file or directory",
    'error during connect: Get "http://docker.example.com/v1.24/info": command [ssh -l me host -- docker system '
    "dial-stdio] has exited with exit status 255, make sure the URL is valid",
)
FORBIDDEN = (
    "Got permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get "
    '"http://%2Fvar%2Frun%2Fdocker.sock/v1.24/info": dial unix /var/run/docker.sock: connect: permission denied',
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
    "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock",
)
NOT_THE_DAEMON = (
    'Error response from daemon: Get "http://127.0.0.1:5005/v2/": dial tcp 127.0.0.1:5005: connect: connection refused',
    "curl: (7) Failed to connect to 127.0.0.1 port 80: Connection refused",
    "sh: /run/secrets/key: Permission denied",
)


def cli(result: Result | Exception, env: Mapping[str, str] | None = None) -> DockerCli:
    def runner(command: Sequence[str], env: Mapping[str, str], limit: float, text: str | None) -> Result:
        if isinstance(result, Exception):
            raise result
        return result

    return DockerCli(env if env is not None else {"DOCKER_HOST": "unix:///var/run/docker.sock"}, runner=runner)


@pytest.mark.parametrize("said", DOWN)
def test_a_daemon_that_is_down_is_to_be_started(said: str) -> None:
    with pytest.raises(DaemonDown, match=r"fix: start it \(`sudo systemctl start docker`") as caught:
        cli(Result(1, "", said)).run(["ps"])
    assert "unix:///var/run/docker.sock" in str(caught.value)


@pytest.mark.parametrize("said", FORBIDDEN)
def test_a_socket_without_permission_needs_the_group(said: str) -> None:
    with pytest.raises(DaemonForbidden, match="fix: `sudo usermod -aG docker"):
        cli(Result(1, "", said)).run(["ps"])


@pytest.mark.parametrize("said", NOT_THE_DAEMON)
def test_words_from_inside_a_container_or_a_registry_do_not_blame_the_daemon(said: str) -> None:
    with pytest.raises(DockerError) as caught:
        cli(Result(1, "", said)).run(["exec", "x", "curl"])
    assert type(caught.value) is DockerError
    assert said in str(caught.value)


def test_a_missing_command_is_to_be_installed() -> None:
    with pytest.raises(DockerMissing, match="fix: install Docker Engine"):
        cli(FileNotFoundError()).run(["ps"])


def test_no_answer_says_how_long_it_waited() -> None:
    with pytest.raises(DockerTimeout, match="`docker ps` gave no answer within 3 s"):
        cli(subprocess.TimeoutExpired("docker", 3)).run(["ps"], limit=3)


def test_every_error_is_one_that_make_shows_without_a_traceback() -> None:
    assert issubclass(DockerError, OpsError)


def test_an_old_client_that_exits_0_without_a_daemon_is_not_believed() -> None:
    info = json.dumps({"ServerErrors": [DOWN[0]], "ClientInfo": {}})
    docker = cli(Result(0, info, ""))
    assert not docker.available()
    with pytest.raises(DaemonDown):
        docker.info()


def test_output_that_is_not_json_is_said() -> None:
    with pytest.raises(DockerError, match="did not print JSON but: Emulate Docker CLI using podman"):
        cli(Result(0, "Emulate Docker CLI using podman", "")).json(["info"])


def test_rows_are_read_line_by_line() -> None:
    assert cli(Result(0, '{"a":1}\n\n{"a":2}\n', "")).rows(["ps"]) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("host", "remote"),
    [
        ("unix:///var/run/docker.sock", False),
        ("unix:///run/user/1000/docker.sock", False),
        ("npipe:////./pipe/docker_engine", False),
        ("ssh://me@gpu-box", True),
        ("tcp://127.0.0.1:2375", True),
    ],
)
def test_which_hosts_are_other_machines(host: str, remote: bool) -> None:
    assert cli(Result(0, "", ""), {"DOCKER_HOST": host}).remote is remote


def test_the_context_names_the_host_where_no_variable_does() -> None:
    assert cli(Result(0, "ssh://me@gpu-box\n", ""), {}).remote


def test_a_remote_daemon_is_not_to_be_started_here() -> None:
    with pytest.raises(DaemonDown, match="see whether that machine lets you in"):
        cli(Result(1, "", DOWN[2]), {"DOCKER_HOST": "ssh://me@gpu-box"}).run(["ps"])


def test_the_real_runner_passes_input_status_and_limit(tmp_path: Path) -> None:
    script = tmp_path / "docker"
    script.write_text(
        f"#!{sys.executable}\nimport sys,time\nsys.argv[1:]==['slow'] and time.sleep(9)\n"
        "print(sys.stdin.read()+sys.argv[1]); sys.exit(len(sys.argv)-2)\n"
    )
    script.chmod(0o755)
    docker = DockerCli({"PATH": f"{tmp_path}:/usr/bin:/bin", "DOCKER_HOST": "unix:///x"})
    assert docker.run(["one"], text="secret ") == "secret one\n"
    assert docker.attempt(["a", "b"]).code == 1
    with pytest.raises(DockerTimeout):
        docker.run(["slow"], limit=0.2)
    with pytest.raises(DockerMissing):
        DockerCli({"PATH": "/nonexistent", "DOCKER_HOST": "unix:///x"}).run(["ps"])
