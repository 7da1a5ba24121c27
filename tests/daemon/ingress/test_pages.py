"""The pages themselves: nothing gets out of its place, and everybody can read them."""

from __future__ import annotations

import doctest
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from oo_daemon.connections.connect import Asked
from oo_daemon.ingress import pages

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)

#: Ways out of text, attributes, titles, scripts, comments and encodings.
EVIL = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//x.example/a.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<img src='x' onerror='alert(1)'/>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x></svg>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<iframe src=javascript:alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<form action=//x.example><button>go</button></form>",
    "<button formaction=javascript:alert(1)>x</button>",
    "<input autofocus onfocus=alert(1)>",
    "<body onload=alert(1)>",
    "<base href=//x.example/>",
    "<meta http-equiv=refresh content='0;url=//x.example'>",
    "<link rel=stylesheet href=//x.example/a.css>",
    "<style>*{background:url(//x.example)}</style>",
    "<style>@import '//x.example';</style>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<marquee onstart=alert(1)>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--<img src='--><img src=x onerror=alert(1)//'>",
    "--><script>alert(1)</script><!--",
    "]]><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</h1></main><script>alert(1)</script>",
    "</bdi></strong><img src=x onerror=alert(1)>",
    "</time><b onmouseover=alert(1)>x</b>",
    '"><script>alert(1)</script>',
    "'><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "` onmouseover=alert(1)",
    '" style="background:url(//x.example)',
    "javascript:alert(1)//",
    "{{ 7 * 7 }}",
    "{% include '/etc/passwd' %}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "${7*7}<%= 7*7 %>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "\x3cscript\x3ealert(1)\x3c/script\x3e\x00\u2028\u202e",
    "<\u0130mg src=x onerror=alert(1)>",
]


def an_offer(text: str) -> str:
    return pages.offer(
        host=text,
        provider=text,
        user=text,
        account=text,
        sees=[Asked(id="a", sentence=text, access="read"), Asked(id="b", sentence=text, access="read", optional=True)],
        changes=[Asked(id="c", sentence=text, access="write", optional=True, ticked=False)],
        kept=[text],
        expires_at=NOW + timedelta(minutes=3),
        now=NOW,
        cookie_missing=True,
    )


PLACES: dict[str, Callable[[str], str]] = {
    "front": lambda text: pages.front(host=text),
    "offer": an_offer,
    "pending": lambda text: pages.outcome(provider=text, status="pending", label=text, user=text, replaces=text, withheld=[text]),
    "connected": lambda text: pages.outcome(provider=text, status="connected", reason=text, label=text, withheld=[text]),
    "denied": lambda text: pages.outcome(provider=text, status="denied", reason=text, label=text),
    "failed": lambda text: pages.outcome(provider=text, status="failed", reason=text, label=text),
}
PAGES: dict[str, Callable[[], str]] = {
    **{name: (lambda page=page: page("Todoist")) for name, page in PLACES.items()},  # type: ignore[misc]  # a default binds early
    "gone": pages.link_gone,
    "refused": pages.flow_refused,
    **{str(status): (lambda status=status: pages.problem(status)) for status in (400, 404, 408, 413, 429, 503)},  # type: ignore[misc]  # as above
}


class Anatomy(HTMLParser):
    """The bones of a page: tags with their attributes in order, and apart from them the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.bones: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.bones += [(tag, None), *((f"{tag}@{name}", value) for name, value in attrs)]

    def handle_endtag(self, tag: str) -> None:
        self.bones.append((f"/{tag}", None))

    def handle_comment(self, data: str) -> None:
        self.bones.append(("comment", data))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("evil", EVIL)
def test_text_stays_text(place: str, evil: str) -> None:
    """Hostile text in every place changes no tag and no attribute of the page, and is shown as it was given."""
    good, bad = Anatomy(PLACES[place]("Todoist")), Anatomy(PLACES[place](evil))
    assert bad.bones == good.bones
    assert "".join(bad.text).count(evil.replace("\x00", "\ufffd")) == "".join(good.text).count("Todoist") or "\x00" in evil


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_used_by_everybody(page: str) -> None:
    """One h1, landmarks, a language, a title, a skip link that leads somewhere, no script and nothing from elsewhere."""
    html = PAGES[page]()
    tags = [tag for tag, _ in Anatomy(html).bones]
    assert tags.count("h1") == tags.count("main") == tags.count("header") == tags.count("title") == 1
    assert 'lang="en"' in html
    assert '<a class="skip" href="#main">' in html
    assert 'id="main"' in html
    assert "script" not in tags
    assert "html@style" not in tags
    assert not [tag for tag in tags if tag.endswith("@style") or "@on" in tag]
    assert not re.findall(r'(?:href|src|action)="(?!/style\.css|#main)[^"]*"', html)
    assert "!" not in "".join(Anatomy(html).text)


@pytest.mark.parametrize("page", ["gone", "refused", "offer", "connected", "denied", "failed", "404", "503"])
def test_a_person_s_page_has_no_jargon(page: str) -> None:
    """The words of operators stay with the operators."""
    words = "".join(Anatomy(PAGES[page]()).text).lower()
    for jargon in ("credential", "token", "webhook", "oauth", "scope", "http", "error", "invalid"):
        assert jargon not in words


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast of two colours like #a0b1c2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_from_the_paper(scheme: str) -> None:
    """Text has 4.5 : 1 at least, lines 3 : 1, in both schemes; both define the same colours."""
    css = pages.stylesheet().decode()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6});", part)) for part in css.split("prefers-color-scheme: dark"))
    assert light.keys() == dark.keys()
    colours = light if scheme == "light" else dark
    for text in ("ink", "quiet", "accent", "well", "attention", "broken"):
        assert contrast(colours[text], colours["paper"]) >= 4.5, text
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert contrast(colours["line"], colours["paper"]) >= 3


def test_the_stylesheet_keeps_to_itself() -> None:
    """At most 12 kB, nothing loaded from anywhere, sizes on the 4-pixel grid, no physical sides."""
    css = pages.stylesheet().decode()
    assert len(css.encode()) <= 12_000
    assert "url(" not in css
    assert "@import" not in css
    assert {int(px) for px in re.findall(r"(\d+)px", css)} <= {0, 1, 2, 4, 8, 12, 16, 24, 32, 44, 48}
    assert not re.findall(r"(?:margin|padding|border)-(?:left|right|top|bottom)", css)


def test_docstrings_hold() -> None:
    """The examples in the module are true."""
    assert doctest.testmod(pages).failed == 0
