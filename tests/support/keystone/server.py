"""Creates a Keystone with a database in a directory, and serves it: DIRECTORY PORT.

It has the user `admin` with the password `admin-password` and the project `admin`, both in the domain `default`, and for this
user the application credential `orders` with the secret `orders-secret`.
"""

import os
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from cryptography.fernet import Fernet

directory, port = Path(sys.argv[1]), int(sys.argv[2])
configuration = directory / "keystone.conf"
keys = directory / "fernet"
configuration.write_text(f"""
[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{directory}/database
[token]
expiration = 3600
[fernet_tokens]
key_repository = {keys}
[fernet_receipts]
key_repository = {keys}
""")
keys.mkdir()
for name in ["0", "1"]:
    (keys / name).write_bytes(Fernet.generate_key())
os.environ["OS_KEYSTONE_CONFIG_DIR"] = str(directory)
# Keystone parses the arguments.
del sys.argv[1:]


def create():
    """Creates the database and what the tests need."""
    from keystone.cmd.bootstrap import Bootstrapper
    from keystone.common import provider_api
    from keystone.common.sql import upgrades
    from keystone.server import configure

    configure(config_files=[str(configuration)])
    upgrades.offline_sync_database_to_version()
    admin = Bootstrapper()
    admin.admin_username, admin.admin_password, admin.project_name = "admin", "admin-password", "admin"
    admin.admin_role_name, admin.service_name, admin.immutable_roles = "admin", "keystone", True
    admin.public_url, admin.region_id = f"http://127.0.0.1:{port}/v3", "RegionOne"
    admin.bootstrap()
    providers = provider_api.ProviderAPIs
    user = providers.identity_api.get_user_by_name("admin", "default")
    credential = {
        "id": "orders",
        "name": "orders",
        "secret": "orders-secret",
        "user_id": user["id"],
        "project_id": admin.project_id,
        "roles": [{"id": admin.member_role_id}],
        "unrestricted": False,
    }
    providers.application_credential_api.create_application_credential(credential)


class Server(ThreadingMixIn, WSGIServer):
    """One thread for each request."""

    daemon_threads = True


# In a process of its own: Keystone can be set up only once in a process.
child = os.fork()
if child == 0:
    create()
    os._exit(0)
if os.waitpid(child, 0)[1] != 0:
    sys.exit("the database was not created")

from keystone.server.wsgi import initialize_public_application

make_server("127.0.0.1", port, initialize_public_application(), server_class=Server).serve_forever()
