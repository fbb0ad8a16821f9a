"""Clients that we did not write, and requests made of the description.

The openai, ollama and anthropic packages are installed to develop with. The others bring some hundred packages (LiteLLM
alone has 200 MB, and its import takes seconds), so they want an environment of their own:
`pip install llm litellm schemathesis`, whose python LIKELY_CLIENTS names; not run without.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.serve.clients import by_anthropic, by_ollama, by_openai
from tests.serve.served import server, write_model
from tests.support import thinkers

PYTHON = os.environ.get("LIKELY_CLIENTS", "")
THINKS = thinkers.THINKERS["qwen3"]
elsewhere = pytest.mark.skipif(not PYTHON, reason="LIKELY_CLIENTS names no python with clients")


@pytest.mark.slow
def test_openai_ollama_and_anthropic_are_served(tmp_path: Path) -> None:
    models = [write_model(tmp_path / "tiny"), thinkers.write(tmp_path / "thinks", THINKS, THINKS.says("hmmm", "So."))]
    with server(tmp_path, models, "-q") as client:
        base = f"http://127.0.0.1:{client.port}/v1"
        assert "tools" in by_openai(base) and "embed" in by_ollama(base) and "thinking" in by_anthropic(base)


@pytest.mark.slow
@elsewhere
def test_llm_and_litellm_are_served(tmp_path: Path) -> None:
    with server(tmp_path, [write_model(tmp_path / "tiny")], "-q") as client:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [PYTHON, str(ROOT / "tests/serve/clients.py"), str(client.port), str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        assert set(json.loads(done.stdout.splitlines()[-1])) == {"litellm", "llm"}


@pytest.mark.slow
@elsewhere
def test_requests_made_of_the_description_are_answered_or_refused(tmp_path: Path) -> None:
    """By schemathesis: no answer of 500, each of a status and a kind that the description names."""
    schemathesis = Path(PYTHON).absolute().parent / "schemathesis"
    with server(tmp_path, [write_model(tmp_path / "tiny")], "-q") as client:
        done = subprocess.run(
            [
                *(str(schemathesis), "run", f"http://127.0.0.1:{client.port}/openapi.json"),
                *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance"),
                *("--max-examples", "40", "--exclude-path", "/metrics", "--request-timeout", "60"),
            ],
            cwd=tmp_path,  # where it leaves what it found
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:]
