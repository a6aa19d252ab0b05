"""Sign in, sign out, language."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView
from django.core.exceptions import PermissionDenied
from django.forms import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.views.i18n import set_language

from access_app import sign_in
from access_app.errors import SignInRefused, TooMany


class SignInForm(AuthenticationForm):
    """Name and password, checked where every door has them checked."""

    retry_after: int | None = None

    def clean(self) -> dict[str, Any]:
        name, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if name and password:
            try:
                user = sign_in.user_with(self.request, username=name, password=password, now=timezone.now())
            except SignInRefused as error:
                raise self.get_invalid_login_error() from error
            except TooMany as error:
                self.retry_after = error.retry_after
                raise ValidationError(error.message, code=error.code) from error
            self.user_cache = user
        return self.cleaned_data


class SignInView(LoginView):
    template_name = "console/sign_in.html"
    redirect_authenticated_user = True
    form_class = SignInForm

    def form_invalid(self, form: Any) -> HttpResponse:
        response = super().form_invalid(form)
        if form.retry_after is not None:
            response.status_code = 429
            response["Retry-After"] = str(form.retry_after)
        return response


def admin_sign_in(request: HttpRequest) -> HttpResponse:
    """The admin has no sign-in of its own: whoever is signed in and comes here may not go there."""
    if request.user.is_authenticated:
        raise PermissionDenied
    wanted = {"next": request.GET.get("next", reverse("admin:index"))}
    return HttpResponseRedirect(f"{reverse('console:sign_in')}?{urlencode(wanted)}")


urlpatterns = [
    path("sign-in/", SignInView.as_view(), name="sign_in"),
    path("sign-out/", LogoutView.as_view(), name="sign_out"),
    path("language/", set_language, name="language"),
]
