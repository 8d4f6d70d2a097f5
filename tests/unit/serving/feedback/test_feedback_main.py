from click.testing import CliRunner

from serving.feedback.__main__ import main


def test_a_database_that_cannot_be_used_is_refused_with_what_to_change():
    done = CliRunner().invoke(main, ["--database", "mysql://host/name", "--port", "0"])
    assert done.exit_code == 2
    assert "use sqlite:///FILE" in done.output


def test_the_database_can_come_from_the_environment():
    done = CliRunner().invoke(main, ["--port", "0"], env={"TITRATE_FEEDBACK_DATABASE": "sqlite://"})
    assert "name a file" in done.output
