from github_oo import GitHub

from oo_sdk.testing import ConnectorContract


class TestGitHub(ConnectorContract):
    connector = GitHub
    meta = {"client_id": "of-the-tests"}
    tape = "github.jsonl"
