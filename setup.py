"""Lists the packages, which pyproject.toml cannot: `vacancy.NAME` lives in the folder NAME, at any depth."""

from setuptools import find_packages, setup

ROOTS = ("resources", "projections", "streams", "clients", "cli", "testing", "placement_api", "ui")

setup(
    packages=[
        f"vacancy.{package}"
        for root in ROOTS
        for package in (root, *(f"{root}.{p}" for p in find_packages(root)))
    ]
)
