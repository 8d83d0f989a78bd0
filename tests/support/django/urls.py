"""The token endpoint is at /o/token/; /ready answers when the server does."""

from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("ready", lambda request: HttpResponse("ok")),
]
