"""The version of an installed package, and of a checkout that is not installed."""

from importlib import metadata

from convnn.version import version


def test_a_checkout_that_is_not_installed_has_the_version_of_its_project_file(monkeypatch):
    installed = version()

    def fail(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", fail)
    assert version() == installed == "0.1.0"
