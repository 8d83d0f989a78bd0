"""The token endpoint is at /o/token/; /ready responds as soon as the server is up."""

from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("ready", lambda request: HttpResponse("ok")),
]
