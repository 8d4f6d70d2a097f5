from click.testing import CliRunner

from serving.gateway.__main__ import main


def test_settings_that_cannot_be_used_are_refused_with_what_to_change(tmp_path):
    file = tmp_path / "gateway.json"
    file.write_text('{"upstream": "127.0.0.1:1", "workload": ["pills"]}')
    done = CliRunner().invoke(main, ["--settings", str(file), "--port", "0"])
    assert done.exit_code == 2
    assert "unknown key 'workload'; did you mean 'workloads'?" in done.output
    missing = CliRunner().invoke(main, ["--settings", str(tmp_path / "none.json"), "--port", "0"])
    assert (missing.exit_code, "none.json" in missing.output) == (2, True)
