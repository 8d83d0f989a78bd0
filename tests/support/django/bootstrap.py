"""Creates the database with its clients and its user, then executes gunicorn with the given arguments."""

import os
import sys
from pathlib import Path

import django

django.setup()

from django.contrib.auth.models import User
from django.core.management import call_command
from oauth2_provider.models import Application

call_command("migrate", verbosity=0)
ada = User.objects.create_user("ada", password="ada-password")
for name, grant in [
    ("service", Application.GRANT_CLIENT_CREDENTIALS),
    ("rotating", Application.GRANT_PASSWORD),
]:
    Application.objects.create(
        name=name,
        client_id=name,
        client_secret=f"{name}-secret",
        hash_client_secret=False,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=grant,
        user=ada,
    )

gunicorn = Path(sys.executable).with_name("gunicorn")
os.execv(gunicorn, ["gunicorn", *sys.argv[1:], "wsgi"])
