"""One request, and what its answer means."""
import email.utils
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Dict, List

from .version import VERSION

LONGEST_ANSWER = 8 << 20
REFUSED_AGAIN = 300.0


@dataclass
class Done:
    """All of it was looked at; what was refused stays so."""

    rejected: List[Dict[str, Any]] = field(default_factory=list)


@dataclass
class Smaller:
    """It is to be sent in smaller pieces, until a single event is refused."""

    code: str
    message: str


@dataclass
class Again:
    """Nothing was taken; to be sent again after so many seconds at least."""

    after: float
    code: str
    message: str
    # Whether the server has asked for it.
    is_asked: bool = False


def post(url, key, body, timeout):
    headers = {
        "Content-Type": "application/json",
        "Content-Encoding": "gzip",
        "User-Agent": f"pulse-python/{VERSION}",
    }
    try:
        request = urllib.request.Request(url, body, headers, method="POST")
        # Nobody else is to have it, wherever the server sends.
        request.add_unredirected_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=timeout) as response:
            if response.url != request.full_url:
                return _elsewhere(response.url)
            return judge(response.status, response.headers, response.read(LONGEST_ANSWER))
    except urllib.error.HTTPError as refused:
        with refused:
            if refused.filename != request.full_url:
                return _elsewhere(refused.filename)
            try:
                answer = refused.read(LONGEST_ANSWER)
            except Exception:
                answer = b""
            return judge(refused.code, refused.headers, answer)
    except Exception as problem:  # Whatever a network and what stands in it can do.
        return Again(0.0, "unreachable", str(problem))


def _elsewhere(url):
    """The request has become another one on its way, without events."""
    return Again(REFUSED_AGAIN, "unreachable", f"the server sends to {url}: `host` is to be where pulse itself answers")


def judge(status, headers, body):
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    answer = answer if isinstance(answer, dict) else {}
    if 300 <= status < 400:
        return _elsewhere(headers.get("Location"))
    code, message = str(answer.get("code", "unreachable")), str(answer.get("message", f"the server answers {status}"))
    # Anything may stand between: what does not speak as pulse does has taken nothing.
    if status in (200, 400) and isinstance(answer.get("rejected"), list):
        return Done([refused for refused in answer["rejected"] if isinstance(refused, dict)])
    if status == 413 or status == 400 and "code" in answer:
        return Smaller(code, message)
    if 400 < status < 500 and status not in (408, 429):
        return Again(REFUSED_AGAIN, code, message)
    after = _after(headers.get("Retry-After"))
    return Again(after, code, message, after > 0)


def _after(text):
    """Seconds of a `Retry-After`, which is a number of them or a date."""
    if not text:
        return 0.0
    try:
        return max(0.0, float(int(text)))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
