"""The examples of the client's README run as they stand; only the address of the service is another one."""

import re
from pathlib import Path

import pytest

from tests.colours import RELEASE, picture

README = Path(__file__).parents[3] / "sdk" / "README.md"
EXAMPLES = dict(re.findall(r"^## (.+?)$.*?^```python$(.+?)^```$", README.read_text(), re.MULTILINE | re.DOTALL))
PRINTED = {
    "One photograph": "green 1.00 sure\n",
    "A folder": "1.png red\n2.png blue\n3.png not_an_image\n",
    "asyncio, with an API key": f"20 answers of release {RELEASE[:12]}\n",
    "The right answer, later": "waiting\n",
    "gRPC, with an array": "blue 1.0\n",
}


def test_every_example_is_tested():
    assert list(EXAMPLES) == list(PRINTED)


@pytest.mark.parametrize("title", list(PRINTED))
def test_the_example_prints_what_it_should(title, service, triton, tmp_path, monkeypatch, capsys):
    (tmp_path / "pill.jpg").write_bytes(picture("lime", kind="JPEG"))
    (tmp_path / "photos").mkdir()
    for name, content in (("1.png", picture("red")), ("2.png", picture("blue")), ("3.png", b"not an image")):
        (tmp_path / "photos" / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    code = EXAMPLES[title].replace("http://localhost:8080", service).replace("localhost:8080", triton.grpc_url)
    exec(compile(code, title, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.startswith(PRINTED[title])
