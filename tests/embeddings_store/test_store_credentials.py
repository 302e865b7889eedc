"""Where an S3 server is and who asks: one answer for bucket and store, from every source that boto3 knows."""

import http.server
import json
import logging
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rclone_server import rclone_s3
from store_makers import SPACE, WORKER

from embeddings_store.errors import OctProbeError, StoreError
from embeddings_store.reader import open_reader
from embeddings_store.s3_access import find_s3, open_credentials
from embeddings_store.storage import open_storage
from embeddings_store.writer import open_writer
from extract.bucket.open import open_source
from extract.bucket.s3 import S3Source
from extract.errors import BucketError

SECRET = "the%secret/with=signs"
CREDENTIALS = f"""
[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key = other
[study]
aws_access_key_id=AKSTUDY
aws_secret_access_key={SECRET}
aws_session_token = tok
[half]
aws_access_key_id = AKHALF
"""
CONFIG = """
[default]
region = us-west-2
endpoint_url = http://default.example
[profile study]
region = eu-central-1
services = own
[services own]
s3 =
  endpoint_url = http://own.example:9000
[profile login]
sso_session = hospital
sso_account_id = 1
sso_role_name = r
[sso-session hospital]
sso_region = us-east-1
sso_start_url = https://hospital.example
[profile program]
credential_process = {python} {program}
[profile broken]
credential_process = {python} -c "import sys; sys.exit('the vault is sealed')"
"""
SURROUNDINGS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "ALL_PROXY", "all_proxy",
    "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)  # fmt: skip

SetEnv = Callable[..., None]


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, b2_guard: None) -> SetEnv:
    """Files of profiles, no instance to ask, and nothing else; gives what sets variables."""
    for name in SURROUNDINGS:
        monkeypatch.delenv(name, raising=False)
    program = tmp_path / "keys.py"
    program.write_text('print(\'{"Version": 1, "AccessKeyId": "AKPROGRAM", "SecretAccessKey": "made"}\')\n')
    (tmp_path / "credentials").write_text(CREDENTIALS)
    (tmp_path / "config").write_text(CONFIG.format(python=sys.executable, program=program))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def use(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return use


def keys_of_the_store() -> tuple[Any, Any]:
    found = open_credentials(find_s3(None))()
    return found["access_key_id"], found["token"]


def keys_of_the_bucket() -> tuple[Any, Any]:
    source = open_source("eye")
    assert isinstance(source, S3Source)
    found = source.client._request_signer._credentials.get_frozen_credentials()  # type: ignore[attr-defined]
    return found.access_key, found.token


@pytest.mark.parametrize(
    ("variables", "keys"),
    [
        ({}, ("AKDEFAULT", None)),
        ({"AWS_PROFILE": "study"}, ("AKSTUDY", "tok")),
        ({"AWS_PROFILE": "program"}, ("AKPROGRAM", None)),
        ({"AWS_PROFILE": "study", "AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "s"}, ("AK", None)),
    ],
)
def test_both_have_the_same_keys(surroundings: SetEnv, variables: dict[str, str], keys: tuple[str, Any]) -> None:
    surroundings(**variables)
    assert keys_of_the_store() == keys_of_the_bucket() == keys


@pytest.mark.parametrize(
    ("variables", "typed", "endpoint", "region"),
    [
        ({}, None, "http://default.example", "us-west-2"),
        ({"AWS_PROFILE": "study"}, None, "http://own.example:9000", "eu-central-1"),
        ({"AWS_PROFILE": "study", "AWS_REGION": "eu-west-1"}, None, "http://own.example:9000", "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-3"}, None, "http://default.example", "eu-west-3"),
        ({"AWS_DEFAULT_REGION": "eu-west-3", "AWS_REGION": "eu-west-1"}, None, "http://default.example", "eu-west-1"),
        ({"AWS_ENDPOINT_URL": "http://all.example"}, None, "http://all.example", "us-west-2"),
        (
            {"AWS_ENDPOINT_URL": "http://all.example", "AWS_ENDPOINT_URL_S3": "http://s3.example"},
            None,
            "http://s3.example",
            "us-west-2",
        ),
        ({"AWS_ENDPOINT_URL": "http://all.example"}, "typed.example:1", "https://typed.example:1", "us-west-2"),
        ({"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, None, None, "us-west-2"),
        ({}, "s3.us-west-004.backblazeb2.com", "https://s3.us-west-004.backblazeb2.com", "us-west-004"),
        ({}, "https://s3.us-gov-west-1.amazonaws.com/", "https://s3.us-gov-west-1.amazonaws.com/", "us-gov-west-1"),
    ],
)
def test_both_go_to_the_same_place(
    surroundings: SetEnv, variables: dict[str, str], typed: str | None, endpoint: str | None, region: str
) -> None:
    surroundings(**variables)
    access = find_s3(typed)
    assert (access.endpoint, access.region) == (endpoint, region)
    source = open_source("eye", endpoint_url=typed)
    assert isinstance(source, S3Source)
    store = open_storage("s3://eye/x", endpoint_url=typed, create=False).objects
    assert source.client.meta.region_name == store.config["region"] == region
    assert store.config["endpoint"] == (endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/")
    assert endpoint is None or source.client.meta.endpoint_url.rstrip("/") == store.config["endpoint"]


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("login", "Error loading SSO Token: Token for hospital does not exist"),
        ("broken", "the vault is sealed"),
        ("half", "Partial credentials found in shared-credentials-file"),
        ("absent", r"AWS_PROFILE names a profile .*\(absent\) could not be found"),
    ],
)
def test_a_profile_that_gives_no_keys_says_why(
    surroundings: SetEnv, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str, message: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    surroundings(AWS_PROFILE=profile, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    with pytest.raises(StoreError, match=message):
        open_storage("s3://eye/x", create=False)
    with pytest.raises(BucketError, match="AWS_PROFILE|no credentials|" + message) as refused:
        list(open_source("eye").list_objects())
    if profile == "broken":
        assert "the vault is sealed" in str(refused.value)


def test_no_keys_at_all(surroundings: SetEnv, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("")
    with pytest.raises(StoreError, match="no credentials for S3: expected AWS_ACCESS_KEY_ID"):
        open_storage("s3://eye/x", create=False)


def test_a_broken_file_is_not_quoted(surroundings: SetEnv, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(f"aws_secret_access_key = {SECRET}\n")
    for open_it in (lambda: open_storage("s3://eye/x", create=False), lambda: open_source("eye")):
        with pytest.raises(OctProbeError, match="Unable to parse config file") as caught:
            open_it()
        assert SECRET not in str(caught.value)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "address", ["http://key:hush@host:9000", "key:hush@host", "https://key@host", "http://a%3Ahush%40host"]
)
def test_a_password_in_an_address_is_refused_at_every_door(surroundings: SetEnv, address: str) -> None:
    doors: list[Callable[[], object]] = [
        lambda: open_source("eye", endpoint_url=address),
        lambda: open_storage("s3://eye/x", endpoint_url=address, create=False),
    ]
    for open_it in doors:
        with pytest.raises(OctProbeError, match="endpoint: expected a plain URL") as refused:
            open_it()
        assert "hush" not in str(refused.value)
    surroundings(AWS_ENDPOINT_URL=address)
    for open_it in (lambda: open_source("eye"), lambda: open_storage("s3://eye/x", create=False)):
        with pytest.raises(OctProbeError, match="endpoint: expected a plain URL"):
            open_it()


@pytest.mark.parametrize("address", ["s3://key:hush@eye/x", "https://key:hush@host/x", "key:hush@eye"])
def test_a_password_in_the_name_of_bucket_or_store_is_refused(surroundings: SetEnv, address: str) -> None:
    with pytest.raises(BucketError, match="--bucket: expected a plain URL") as refused:
        open_source(address)
    assert "hush" not in str(refused.value)
    if "://" in address:
        with pytest.raises(StoreError, match="store: expected a plain URL") as refused_store:
            open_storage(address, create=True)
        assert "hush" not in str(refused_store.value)


class Keys(http.server.BaseHTTPRequestHandler):
    """What a container asks for its role's keys, and a web identity for its own."""

    def do_GET(self) -> None:
        self._answer(json.dumps({**KEYS, "Token": "t"}).encode())

    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers["content-length"])).decode()
        assert "WebIdentityToken=who-asks" in said
        keys = f"<AccessKeyId>{KEYS['AccessKeyId']}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        keys += "<SessionToken>t</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>"
        name = "AssumeRoleWithWebIdentity"
        self._answer(
            f'<{name}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{name}Result><Credentials>{keys}'
            f"</Credentials></{name}Result></{name}Response>".encode()
        )

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


KEYS = {"AccessKeyId": "AKROLE", "SecretAccessKey": "s", "Expiration": "2999-01-01T00:00:00Z", "RoleArn": "r"}


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_the_role_of_a_container(surroundings: SetEnv, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("")
    with serving(Keys) as url:
        surroundings(AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{url}/keys")
        assert keys_of_the_store() == keys_of_the_bucket() == ("AKROLE", "t")


def test_the_role_of_a_container_that_asks_for_a_token(
    surroundings: SetEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text("")
    (tmp_path / "token").write_text("Bearer who-asks")
    asked = list[tuple[str, str | None]]()

    class Agent(Keys):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            super().do_GET()

    with serving(Agent) as url:
        monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.IP_ADDRESS", url.removeprefix("http://"))
        surroundings(
            AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/v2/keys",
            AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(tmp_path / "token"),
        )
        assert keys_of_the_store() == keys_of_the_bucket() == ("AKROLE", "t")
    assert set(asked) == {("/v2/keys", "Bearer who-asks")}


class Instance(http.server.BaseHTTPRequestHandler):
    """The metadata service of an instance that gives its role's keys to those with a session token only (IMDSv2)."""

    def do_PUT(self) -> None:
        self._answer(200, "session") if self.path == "/latest/api/token" else self._answer(404)

    def do_GET(self) -> None:
        role = "/latest/meta-data/iam/security-credentials/"
        if self.headers["x-aws-ec2-metadata-token"] != "session":
            self._answer(401)
        elif self.path == role:
            self._answer(200, "reader")
        elif self.path == f"{role}reader":
            self._answer(200, json.dumps({**KEYS, "Token": "t", "Code": "Success", "LastUpdated": "2026-01-01"}))
        else:
            self._answer(404)

    def _answer(self, status: int, text: str = "") -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_role_of_an_instance(surroundings: SetEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    with serving(Instance) as url:
        surroundings(AWS_EC2_METADATA_SERVICE_ENDPOINT=url)
        assert keys_of_the_store() == keys_of_the_bucket() == ("AKROLE", "t")


def test_a_login_that_is_still_valid(surroundings: SetEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of a login (SSO): its token lies in the cache, the portal gives keys for it."""
    token = {"accessToken": "who-asks", "expiresAt": "2999-01-01T00:00:00Z", "region": "us-east-1"}
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / f"{sha1(b'hospital', usedforsecurity=False).hexdigest()}.json").write_text(json.dumps(token))
    monkeypatch.setattr("botocore.tokens.SSOTokenProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    monkeypatch.setattr("botocore.utils.JSONFileCache.CACHE_DIR", str(cache))

    class Portal(Keys):
        def do_GET(self) -> None:
            assert self.headers["x-amz-sso_bearer_token"] == "who-asks"
            keys = {"accessKeyId": "AKROLE", "secretAccessKey": "s", "sessionToken": "t", "expiration": 32503680000000}
            self._answer(json.dumps({"roleCredentials": keys}).encode())

    with serving(Portal) as url:
        surroundings(AWS_PROFILE="login", AWS_ENDPOINT_URL_SSO=url)
        assert keys_of_the_store() == keys_of_the_bucket() == ("AKROLE", "t")


def test_a_web_identity(surroundings: SetEnv, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("")
    (tmp_path / "token").write_text("who-asks")
    with serving(Keys) as url:
        surroundings(
            AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"), AWS_ROLE_ARN="arn:aws:iam::1:role/r",
            AWS_ENDPOINT_URL_STS=url, AWS_REGION="eu-west-1",
        )  # fmt: skip
        assert keys_of_the_store() == keys_of_the_bucket() == ("AKROLE", "t")


@pytest.fixture
def served(tmp_path: Path, surroundings: SetEnv) -> Iterator[str]:
    """A real server whose keys are in a profile, together with its address."""
    (tmp_path / "buckets" / "bucket").mkdir(parents=True)
    with rclone_s3(tmp_path / "buckets") as (endpoint, access_key, secret_key):
        (tmp_path / "credentials").write_text(
            f"[study]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
        )
        (tmp_path / "config").write_text(f"[profile study]\nendpoint_url = {endpoint}\n")
        surroundings(AWS_PROFILE="study")
        yield endpoint


@pytest.mark.s3
def test_a_real_server_takes_a_profiles_keys_and_address_and_nothing_shows_them(
    served: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "embeddings_store")
    writer = open_writer("s3://bucket/x", SPACE, capacity=10, worker=WORKER)
    assert open_reader("s3://bucket/x").space == SPACE
    assert [info.key for info in open_source("s3://bucket/x").list_objects()]
    secret = (tmp_path / "credentials").read_text().split()[-1]
    assert secret not in repr(writer) + repr(find_s3(None)) + caplog.text


@pytest.mark.s3
def test_both_go_through_the_proxy_that_the_surroundings_name(served: str, surroundings: SetEnv) -> None:
    seen = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(403)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Proxy) as url:
        surroundings(HTTP_PROXY=url, AWS_ENDPOINT_URL="http://far.example", NO_PROXY="")
        for ask in (
            lambda: list(open_source("bucket").list_objects()),
            lambda: open_storage("s3://bucket/x", create=False).get("a"),
        ):
            with pytest.raises(OctProbeError):
                ask()
        assert [path.split("?")[0].rstrip("/") for path in seen] == [
            "http://far.example/bucket",
            "http://far.example/bucket/x/a",
        ]
        surroundings(NO_PROXY="127.0.0.1", AWS_ENDPOINT_URL=served)
        assert open_storage("s3://bucket/x", create=False).get("a") is None
        assert list(open_source("bucket").list_objects()) == []
        assert len(seen) == 2


class Missing(http.server.BaseHTTPRequestHandler):
    """Has no object at all."""

    def do_GET(self) -> None:
        body = b"<Error><Code>NoSuchKey</Code></Error>"
        self.send_response(404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def vouched_for(tmp_path: Path, surroundings: SetEnv, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server whose certificate an authority of our own signed; give a bundle of another one and that one."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make certificates")

    def openssl(line: str) -> None:
        subprocess.run(["openssl", *line.split()], check=True, capture_output=True, cwd=tmp_path)

    for name in ("other", "own"):
        openssl(f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem")
    openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr")
    (tmp_path / "names").write_text("subjectAltName=DNS:localhost,DNS:far.example\n")
    openssl("x509 -req -in server.csr -CA own.pem -CAkey own.key -CAcreateserial -extfile names -out server.pem")
    bundle = tmp_path / "bundle.pem"
    bundle.write_text((tmp_path / "other.pem").read_text() + "# ours\n" + (tmp_path / "own.pem").read_text())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Missing)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(time, "sleep", lambda _s: None)
    surroundings(AWS_ENDPOINT_URL=f"https://localhost:{server.server_port}", NO_PROXY="*")
    yield bundle
    server.shutdown()
    server.server_close()


def test_both_trust_the_authority_that_the_surroundings_name(
    vouched_for: Path, surroundings: SetEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "ca_bundle of the profile"):
        if name in SURROUNDINGS:
            surroundings(**{name: str(vouched_for)})
        else:
            (tmp_path / "config").write_text(f"[default]\nca_bundle = {vouched_for}\n")
        assert open_source("bucket").read_optional("a") is None
        assert open_storage("s3://bucket/x", create=False).get("a") is None
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("named", ["", "other.pem"])
def test_neither_trusts_another_authority(
    vouched_for: Path, surroundings: SetEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setattr("extract.bucket.s3.FIRST_PAUSE_S", 0)
    surroundings(AWS_CA_BUNDLE=str(tmp_path / named) if named else "")
    with pytest.raises(BucketError, match="the server's certificate is not trusted; set AWS_CA_BUNDLE"):
        open_source("bucket").read_optional("a")
    with pytest.raises(
        StoreError, match=r"cannot read in the store .*the server's certificate is not trusted; set AWS_CA_"
    ):
        open_storage("s3://bucket/x", create=False).get("a")


class Tunnel(http.server.BaseHTTPRequestHandler):
    """An HTTPS proxy: it sees no more than where each connection goes, which here is one server for every name."""

    asked: ClassVar[list[str]] = []
    port = 0
    status = 200

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.status)
        self.end_headers()
        if self.status == 200:
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                back = threading.Thread(target=self._pass_on, args=(server, self.connection), daemon=True)
                back.start()
                self._pass_on(self.connection, server)
                back.join()
        self.close_connection = True

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def ask_both(expected: type[OctProbeError] | None = None, words: str = "") -> None:
    """Ask bucket and store for an object that is not there."""
    for ask in (
        lambda: open_source("bucket").read_optional("a"),
        lambda: open_storage("s3://bucket/x", create=False).get("a"),
    ):
        if expected is None:
            assert ask() is None
            continue
        with pytest.raises(expected, match=words):
            ask()


def test_both_go_through_a_proxy_of_https(
    vouched_for: Path, surroundings: SetEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extract.bucket.s3.FIRST_PAUSE_S", 0)
    monkeypatch.setattr(Tunnel, "asked", [])
    monkeypatch.setattr(Tunnel, "port", int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]))
    surroundings(AWS_ENDPOINT_URL="https://far.example", AWS_CA_BUNDLE=str(vouched_for), NO_PROXY="")
    with serving(Tunnel) as url:
        surroundings(HTTPS_PROXY=url)
        ask_both()
        assert Tunnel.asked == ["far.example:443"] * 2

        monkeypatch.setattr(Tunnel, "status", 407)
        ask_both(OctProbeError, "the proxy that HTTPS_PROXY .* names refuses")

        monkeypatch.setattr(Tunnel, "status", 200)
        surroundings(AWS_CA_BUNDLE="")
        ask_both(OctProbeError, "the server's certificate is not trusted; set AWS_CA_BUNDLE")


def test_neither_finds_a_server_that_is_not_there(surroundings: SetEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extract.bucket.s3.FIRST_PAUSE_S", 0)
    surroundings(AWS_ENDPOINT_URL="https://127.0.0.1:1", NO_PROXY="*")
    ask_both(OctProbeError, "the endpoint cannot be reached; check --endpoint-url and the network")


@pytest.mark.parametrize(("content", "got"), [(None, "No such file"), ("hello", "no certificate")])
def test_both_refuse_a_file_of_no_certificates(
    surroundings: SetEnv, tmp_path: Path, content: str | None, got: str
) -> None:
    if content:
        (tmp_path / "ca.pem").write_text(content)
    surroundings(AWS_CA_BUNDLE=str(tmp_path / "ca.pem"))
    for open_it in (lambda: open_source("bucket"), lambda: open_storage("s3://bucket/x", create=False)):
        with pytest.raises(OctProbeError, match=rf"AWS_CA_BUNDLE .*ca\.pem: expected a readable file .*{got}"):
            open_it()


def test_of_a_refusal_the_words_are_shown_and_not_the_key(surroundings: SetEnv) -> None:
    class Refusing(Missing):
        def do_GET(self) -> None:
            words = "<Code>InvalidAccessKeyId</Code><Message>The key does not exist in our records.</Message>"
            body = f"<Error>{words}<AWSAccessKeyId>AKDEFAULT</AWSAccessKeyId></Error>".encode()
            self.send_response(403)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Refusing) as url:
        surroundings(AWS_ENDPOINT_URL=url)
        with pytest.raises(
            StoreError, match=r"The key does not exist in our records\. \(InvalidAccessKeyId\)"
        ) as refused:
            open_storage("s3://bucket/x", create=False).get("a")
        assert "AKDEFAULT" not in str(refused.value)
        with pytest.raises(BucketError, match="The key does not exist in our records") as refused_bucket:
            list(open_source("bucket").list_objects())
        assert "AKDEFAULT" not in str(refused_bucket.value)
