"""GitHub: repositories and their issues, as they change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from oo_sdk import (
    Change,
    Checkpoint,
    ClientAuth,
    Connector,
    Context,
    Cursor,
    Event,
    Flow,
    Listing,
    OAuth2,
    Placeholder,
    RateLimit,
    Revocation,
    Revoked,
    Scope,
    Sign,
    Signal,
    Stored,
    StoredCredential,
    Struct,
    hookimpl,
    pages,
)
from oo_sdk.vocabulary import Project, Task

PAGE = 100  #: the most that GitHub gives at once


class User(Struct):
    id: int
    login: str


class Repository(Struct):
    id: int
    full_name: str
    has_issues: bool = False


class Issue(Struct):
    number: int
    title: str
    state: str
    updated_at: str
    body: str | None = None


class GitHub(Connector):
    id = "github"
    title = "GitHub"
    scopes = (Scope("repo", "See your repositories and their issues; GitHub has no smaller permission for private ones."),)
    stores = (
        Stored("repository", "the names of your repositories", "show your issues where they belong", ("title",)),
        Stored(
            "issue",
            "your issues: title, text and whether each is open",
            "show and plan them",
            ("title", "description", "completed", "project"),
        ),
    )
    limits = (RateLimit(5000, per="hour"),)
    manual_revocation = "https://github.com/settings/applications"

    class Settings(Connector.Settings):
        web: str = "https://github.com"
        api: str = "https://api.github.com"

    settings = Settings()

    @property
    def auth(self):
        at = f"{self.settings.web}/login/oauth"
        return OAuth2(
            authorize=f"{at}/authorize",
            token=f"{at}/access_token",
            client_auth=ClientAuth.POST,
            errors={"bad_verification_code": "invalid_grant", "incorrect_client_credentials": "invalid_client"},
        )

    @property
    def hosts(self):
        return sorted({url.partition("://")[2] for url in (self.settings.web, self.settings.api)})

    async def finish_oauth(self, flow: Flow, code: str) -> StoredCredential:
        credential = await flow.exchange(code)
        user = await flow.http.get(f"{self.settings.api}/user", into=User)
        return credential.of(str(user.id), label=user.login, meta={"client_id": flow.client_id})

    async def fetch_signals(self, ctx: Context, since: Cursor | None) -> AsyncIterator[Signal]:
        known, places = dict(since["places"] if since else {}), {}
        lists = pages(ctx.http, f"{self.settings.api}/user/repos", params={"per_page": PAGE}, into=list[Repository])
        repositories = [each async for page in lists for each in page]
        yield Listing()
        for each in repositories:
            yield Event("repository", str(each.id), Change.UPSERTED, payload=Project(title=each.full_name))
            places[str(each.id)] = known.get(str(each.id), "")
        yield Checkpoint({"places": places}, listed=("repository",))
        if gone := tuple(f"{id_}/" for id_ in known if id_ not in places):
            yield Listing()  # of what is in repositories that are gone: nothing
            yield Checkpoint({"places": places}, listed=("issue",), within=gone)
        for each in repositories:
            async for signal in self.issues(ctx, each, places):
                yield signal

    async def issues(self, ctx: Context, repository: Repository, places: dict[str, str]) -> AsyncIterator[Signal]:
        """Oldest change first, each page from where the one before ended: an issue that changes meanwhile only moves to the end."""
        id_, page = str(repository.id), PAGE if repository.has_issues else 0
        number = 1
        while page == PAGE:
            params = {"state": "all", "sort": "updated", "direction": "asc", "per_page": PAGE, "page": number, "since": places[id_] or None}
            issues = await ctx.http.get(f"{self.settings.api}/repos/{repository.full_name}/issues", params=params, into=list[Issue])
            for issue in issues:
                task = Task(title=issue.title, description=issue.body or "", completed=issue.state == "closed", project=id_)
                at = datetime.fromisoformat(issue.updated_at)
                yield Event("issue", f"{id_}/{issue.number}", Change.UPSERTED, at=at, version=issue.updated_at, payload=task)
            page = len(issues)
            if issues:
                number = number + 1 if issues[-1].updated_at == places[id_] else 1
                places[id_] = issues[-1].updated_at
            yield Checkpoint({"places": dict(places)})

    async def revoke(self, ctx: Context) -> Revocation:
        url = f"{self.settings.api}/applications/{ctx.meta['client_id']}/grant"
        token = {"access_token": Placeholder.ACCESS_TOKEN}
        await ctx.http.request("DELETE", url, json=token, sign=Sign.CLIENT, accept=(404, 422))  # these two: it is gone already
        return Revocation(revoked=Revoked.FULLY, manual_url=self.manual_revocation)


@hookimpl
def oo_connectors() -> list[Connector]:
    return [GitHub()]
