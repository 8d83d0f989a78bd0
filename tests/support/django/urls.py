"""The token endpoint is at /o/token/; /protected requires an access token; /ready responds as soon as the server is up."""

from django.http import HttpResponse
from django.urls import include, path
from oauth2_provider.decorators import protected_resource

urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("protected", protected_resource()(lambda request: HttpResponse("ok"))),
    path("ready", lambda request: HttpResponse("ok")),
]
