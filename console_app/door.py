"""What every page shares: sign-in, the errors of services, and live regions that answer 304 while nothing changed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from urllib.parse import urlencode, urlsplit

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotModified
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from access_app import approvals
from access_app.actors import Actor, request_actor
from access_app.second_person import ApprovalRequired
from console_app.errors import sentence
from console_app.links import without_blanks
from tasks_app.errors import NotFound, PermissionRefused, SchedulerError

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, Actor, P], HttpResponseBase]
Entry = Callable[Concatenate[HttpRequest, P], HttpResponseBase]
TAG_HEADER = "HX-PTag"


def page(view: View[P]) -> Entry[P]:
    """A page for people who are signed in; the view gets the actor as its second argument.

    Foreign and missing objects answer 404, a role that is too low 403.
    """

    @never_cache
    @wraps(view)
    def entry(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _to_sign_in(request)
        try:
            actor = request.META["console.actor"] = request_actor(request)
            return view(request, actor, *args, **kwargs)
        except ApprovalRequired as error:
            asked = approvals.ask(error)
            messages.info(request, _("This needs a second person: it is asked for here, and not done yet."))
            return redirect("console:approval", pk=asked.pk)
        except NotFound as error:
            raise Http404 from error
        except PermissionRefused as error:
            raise PermissionDenied(error.message) from error

    return entry


def action(back: str) -> Callable[[View[P]], Entry[P]]:
    """A button: POST only, one verb of a service, then a redirect.

    What the service refuses is shown on the page named `back` (the URL name, with the arguments of this view).
    """

    def wrap(view: View[P]) -> Entry[P]:
        @wraps(view)
        def guarded(request: HttpRequest, actor: Actor, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            try:
                return view(request, actor, *args, **kwargs)
            except (NotFound, ApprovalRequired):
                raise
            except SchedulerError as error:
                messages.error(request, sentence(error))
                return redirect(reverse(back, args=args, kwargs=kwargs))

        return require_POST(page(guarded))

    return wrap


def live(tag_of: Callable[[], str]) -> Callable[[View[P]], View[P]]:
    """A page whose region polls: when the tag is the one that the browser has, answer 304 before anything is read.

    `tag_of` must be cheap, and its answer must change whenever the region of one and the same address would.
    """

    def wrap(view: View[P]) -> View[P]:
        @wraps(view)
        def tagged(request: HttpRequest, actor: Actor, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            # A filter form keeps the tag of its last answer and sends it with another query: the tag names the address.
            tag = f"{tag_of()}.{zlib.crc32(request.get_full_path().encode())}"
            if is_fragment(request) and request.headers.get(TAG_HEADER) == tag:
                return HttpResponseNotModified()
            request.META["console.tag"] = tag
            response = view(request, actor, *args, **kwargs)
            response[TAG_HEADER] = tag
            return response

        return tagged

    return wrap


def show(request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
    """The page `console/NAME.html`, or to htmx only its region `console/NAME_region.html`."""
    fragment = is_fragment(request)
    template = f"console/{name}_region.html" if fragment else f"console/{name}.html"
    return render(request, template, {"tag": request.META.get("console.tag", ""), "is_fragment": fragment, **context})


def keep_filter_in_url(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """When a filter form (not a poll) asked, let the address bar show the filter, without its empty fields."""
    if request.headers.get("HX-Source", "").startswith("form"):
        response["HX-Push-Url"] = f"{request.path}?{without_blanks(request.GET).urlencode()}"
    return response


def is_fragment(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    if not is_fragment(request):
        return redirect_to_login(request.get_full_path())
    # A redirect would be followed by the poll and the form swapped into the region: the whole page has to go there.
    shown = urlsplit(request.headers.get("HX-Current-URL", ""))
    back = shown.path + (f"?{shown.query}" if shown.query else "")
    response = HttpResponse(status=401)
    response["HX-Redirect"] = f"{reverse('console:sign_in')}?{urlencode({'next': back})}"
    return response
