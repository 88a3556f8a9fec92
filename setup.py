"""Lists the packages, which pyproject.toml cannot: `vacancy.NAME` lives in the folder NAME, at any depth."""

from setuptools import find_packages, setup

ROOTS = ("resources", "projections", "streams", "clients", "cli", "testing", "placement_api", "ui")

# Folders of files that are no modules. setuptools warns of each that is not listed.
DATA = ("vacancy.ui.static", "vacancy.ui.static.heatmap", "vacancy.ui.templates")

setup(
    packages=[
        *(
            f"vacancy.{package}"
            for root in ROOTS
            for package in (root, *(f"{root}.{p}" for p in find_packages(root)))
        ),
        *DATA,
    ]
)
