"""Servers that answer otherwise than Amazon's, and refusals of an account: one clean line, and nothing lost."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from itertools import count

import pytest
from lesser_server import PAGE, Answer, Behaviour, lesser_server, listing, md5_etag, refuse

from extract.bucket.s3 import S3Source
from extract.bucket.source import ObjectInfo
from extract.errors import BucketError, FetchError

OBJECTS = {f"k{number:02d}.dcm": bytes([number]) * (1000 + number) for number in range(10)}
CAP = "Cannot download file, download bandwidth or transaction (Class B) cap exceeded. See the Caps &amp; Alerts page."
OTHER_PLACE = {"Location": "https://elsewhere.example/eye?X-Amz-Signature=abc"}

Open = Callable[[Behaviour], S3Source]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch, s3_credentials: Callable[[str, str], None]) -> None:
    monkeypatch.setattr("extract.bucket.s3.FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    s3_credentials("testkey", "verysecretverysecret")


@pytest.fixture
def open_on() -> Iterator[Open]:
    with ExitStack() as servers:
        yield lambda behaviour: S3Source("eye", endpoint_url=servers.enter_context(lesser_server(behaviour)))


def other_etag(data: bytes) -> str:
    return f'"{sha256(data).hexdigest()[:32]}"'


def fetch_all(source: S3Source) -> list[bytes | str]:
    found = list[bytes | str]()
    for info in source.list_objects():
        try:
            found.append(source.fetch(info).data)
        except FetchError as error:
            found.append(str(error))
    return found


class TestRefusalsOfAll:
    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (refuse(403, "AccessDenied", CAP), ["account", "cap exceeded. See the Caps & Alerts page."]),
            (refuse(403, "AccessDenied", "Transaction cap exceeded"), ["account", '"Transaction cap exceeded"']),
            (refuse(403, "TransactionCapExceeded", "Daily cap exceeded"), ["account", "Daily cap exceeded"]),
            (refuse(400, "ExpiredToken", "The provided token has expired."), ["expired", "renew", "token has expired"]),
            (refuse(403, "RequestTimeTooSkewed", "The difference is too large."), ["clock", "difference is too large"]),
            (refuse(403, "AccountProblem", "There is a problem."), ["account", "There is a problem."]),
            (refuse(403, "InvalidAccessKeyId", "The key you provided does not exist."), ["credentials", "not exist"]),
            (refuse(403, "AccessDenied", "Account suspended."), ["account", "Account suspended."]),
            (refuse(403, "AccessDenied", "Your storage cap is exceeded."), ["account", "storage cap is exceeded"]),
            (refuse(403, "transaction_cap_exceeded", ""), ["account", "transaction_cap_exceeded"]),
            (refuse(402, "PaymentRequired", "Pay your bill."), ["account", "Pay your bill."]),
            (refuse(403, "NotSignedUp", "Not signed up."), ["credentials", "Not signed up."]),
            (refuse(403, "InvalidPayer", "No access to payer."), ["account", "No access to payer."]),
            (refuse(403, "AllAccessDisabled", "All is disabled."), ["account", "All is disabled."]),
            (refuse(403, "SignatureDoesNotMatch", "It does not match."), ["credentials", "It does not match."]),
            (refuse(400, "TokenRefreshRequired", "Please refresh it."), ["expired", "Please refresh it."]),
            (refuse(401, "expired_auth_token", "It has expired."), ["credentials", "It has expired."]),
        ],
    )
    def test_it_stops_the_run_in_the_servers_own_words(self, open_on: Open, answer: Answer, words: list[str]) -> None:
        behaviour = Behaviour(OBJECTS)
        source = open_on(behaviour)
        first, *rest = source.list_objects()
        assert source.fetch(first).data == OBJECTS[first.key]
        behaviour.answer_get = lambda _: answer
        with pytest.raises(BucketError) as caught:
            source.fetch(rest[0])
        message = str(caught.value)
        assert [word for word in words if word not in message] == []
        assert "\n" not in message

    @pytest.mark.parametrize("came_before", [0, 2])
    @pytest.mark.parametrize("code", ["AccessDenied", "SomethingNew", "KMS.DisabledException"])
    def test_what_is_refused_of_others_too_stops_the_run(self, open_on: Open, code: str, came_before: int) -> None:
        behaviour = Behaviour(OBJECTS)
        source = open_on(behaviour)
        infos = list(source.list_objects())
        for info in infos[:came_before]:
            source.fetch(info)
        behaviour.answer_get = lambda _: refuse(403, code, "Not today, thank you.")
        with pytest.raises(BucketError, match="Not today, thank you"):
            source.fetch(infos[5])

    @pytest.mark.parametrize("code", ["AccessDenied", "SomethingNew", "InvalidObjectState"])
    def test_what_is_refused_alone_is_one_volumes_error(self, open_on: Open, code: str) -> None:
        behaviour = Behaviour(OBJECTS, answer_get=lambda key: refuse(403, code) if key == "k00.dcm" else None)
        failed, *rest = fetch_all(open_on(behaviour))
        assert code in str(failed)
        assert rest == list(OBJECTS.values())[1:]

    @pytest.mark.parametrize(
        ("status", "code"),
        [(502, "BadGateway"), (503, "SlowDown"), (400, "RequestTimeout"), (400, "Throttling"), (522, "Unknown")],
    )  # fmt: skip
    def test_a_server_that_fails_everything_stops_the_run(self, open_on: Open, status: int, code: str) -> None:
        behaviour = Behaviour(OBJECTS)
        source = open_on(behaviour)
        infos = list(source.list_objects())
        source.fetch(infos[0])
        behaviour.answer_get = lambda key: refuse(status, code) if key == "k05.dcm" else None
        with pytest.raises(FetchError, match=code):
            source.fetch(infos[5])
        behaviour.answer_get = lambda _: refuse(status, code)
        with pytest.raises(BucketError, match="again and again; try again later with the same command"):
            source.fetch(infos[5])

    def test_an_archived_object_concerns_itself_alone(self, open_on: Open) -> None:
        archived = refuse(403, "InvalidObjectState", "Not valid for the storage class.")
        found = fetch_all(open_on(Behaviour(OBJECTS, answer_get=lambda _: archived)))
        assert [str(one).endswith("restore it there, then: extract-embeddings retry") for one in found] == [True] * 10

    def test_no_secret_and_no_name_of_an_object_is_repeated(self, open_on: Open) -> None:
        hidden = ["testkey", "verysecretverysecret", "AKIAIOSFODNN7EXAMPLE", "1234_scan.dcm", "123456789012", "abc=="]
        words = "User arn:aws:iam::123456789012:user/me may not read arn:aws:s3:::eye/1234/1234_scan.dcm with testkey"
        told = f"{words} AKIAIOSFODNN7EXAMPLE verysecretverysecret https://x.example/1234/1234_scan.dcm?sig=abc=="
        source = open_on(Behaviour(OBJECTS, answer_get=lambda _: refuse(403, "AccountProblem", told)))
        with pytest.raises(BucketError, match="may not read") as caught:
            source.fetch(ObjectInfo("k00.dcm", -1, ""))
        assert [word for word in hidden if word in str(caught.value)] == []


class TestEtags:
    @pytest.mark.parametrize("objects", [dict(list(OBJECTS.items())[:4]), OBJECTS])
    def test_where_several_differ_they_are_no_md5(self, open_on: Open, objects: dict[str, bytes]) -> None:
        behaviour = Behaviour(objects, etag=other_etag)
        assert fetch_all(open_on(behaviour)) == list(objects.values())
        assert len(behaviour.gets) <= len(objects) + 14, "doubts cost a few requests, once"

    def test_where_they_are_no_md5_the_tables_are_read_too(self, open_on: Open) -> None:
        tables = {"participants.tsv": b"participant_id\n1001\n", "retinal_oct/manifest.tsv": b"filepath\n"}
        source = open_on(Behaviour(OBJECTS | tables, etag=other_etag))
        assert {key: source.read_optional(key) for key in tables} == tables
        assert fetch_all(source) == list((OBJECTS | tables).values())

    def test_a_damaged_table_among_sound_objects_is_not_read(self, open_on: Open) -> None:
        objects = OBJECTS | {"participants.tsv": b"participant_id\n1001\n"}
        source = open_on(Behaviour(objects, damaged=frozenset({"participants.tsv"})))
        with pytest.raises(FetchError, match="do not have the md5"):
            source.read_optional("participants.tsv")

    @pytest.mark.parametrize("place", [0, 5])
    def test_a_damaged_object_among_sound_ones_stays_a_fault(self, open_on: Open, place: int) -> None:
        key = list(OBJECTS)[place]
        found = fetch_all(open_on(Behaviour(OBJECTS, damaged=frozenset({key}))))
        assert "do not have the md5" in str(found.pop(place))
        assert found == [data for other, data in OBJECTS.items() if other != key]

    def test_three_damaged_objects_among_sound_ones_stay_faults(self, open_on: Open) -> None:
        found = fetch_all(open_on(Behaviour(OBJECTS, damaged=frozenset(list(OBJECTS)[:3]))))
        assert [isinstance(one, str) for one in found] == [True] * 3 + [False] * 7

    def test_a_single_object_alone_is_not_believed(self, open_on: Open) -> None:
        (found,) = fetch_all(open_on(Behaviour({"k.dcm": b"voxels"}, etag=other_etag)))
        assert "do not have the md5" in str(found)

    def test_none_at_all(self, open_on: Open) -> None:
        assert fetch_all(open_on(Behaviour(OBJECTS, etag=lambda _: ""))) == list(OBJECTS.values())

    def test_none_in_the_answer_leaves_that_of_the_listing(self, open_on: Open) -> None:
        behaviour = Behaviour(OBJECTS, etag=lambda _: "", damaged=frozenset({"k03.dcm"}))
        behaviour.answer_list = lambda _: listing(OBJECTS, md5_etag)
        found = fetch_all(open_on(behaviour))
        assert "do not have the md5" in str(found.pop(3)), "its md5 is still known"
        assert found == [data for key, data in OBJECTS.items() if key != "k03.dcm"]

    @pytest.mark.parametrize("listed_as_weak", [True, False])
    def test_weak_ones(self, open_on: Open, listed_as_weak: bool) -> None:
        behaviour = Behaviour(OBJECTS, etag=lambda data: f"W/{md5_etag(data)}")
        behaviour.answer_list = lambda _: listing(OBJECTS, behaviour.etag if listed_as_weak else md5_etag)
        assert fetch_all(open_on(behaviour)) == list(OBJECTS.values())

    def test_a_damaged_object_with_a_weak_one_stays_a_fault(self, open_on: Open) -> None:
        behaviour = Behaviour(OBJECTS, etag=lambda data: f"W/{md5_etag(data)}", damaged=frozenset({"k03.dcm"}))
        found = fetch_all(open_on(behaviour))
        assert "do not have the md5" in str(found.pop(3))
        assert found == [data for key, data in OBJECTS.items() if key != "k03.dcm"]


class TestListings:
    def test_a_page_that_goes_on_without_a_token_is_gone_on_from_its_last_key(self, open_on: Open) -> None:
        def page(query: dict[str, str]) -> Answer:
            after = query.get("start-after", "")
            rest = {key: data for key, data in OBJECTS.items() if key > after}
            return listing(dict(list(rest.items())[:4]), md5_etag, more="true" if len(rest) > 4 else "false")

        source = open_on(Behaviour(OBJECTS, answer_list=page))
        assert [info.key for info in source.list_objects()] == list(OBJECTS)

    @pytest.mark.parametrize("word", ["True", "TRUE", " true ", "1"])
    @pytest.mark.parametrize("token", ["t", ""])
    def test_more_is_more_however_it_is_written(self, open_on: Open, word: str, token: str) -> None:
        first, rest = (dict(list(OBJECTS.items())[part]) for part in (slice(4), slice(4, None)))

        def page(query: dict[str, str]) -> Answer:
            goes_on = "start-after" in query or "continuation-token" in query
            return (
                listing(rest, md5_etag, more="False") if goes_on else listing(first, md5_etag, more=word, token=token)
            )

        source = open_on(Behaviour(OBJECTS, answer_list=page))
        assert [info.key for info in source.list_objects()] == list(OBJECTS)

    def test_an_empty_page_that_goes_on_is_not_the_last(self, open_on: Open) -> None:
        def page(query: dict[str, str]) -> Answer | None:
            return None if "continuation-token" in query else listing({}, md5_etag, more="true", token="t")

        assert [info.key for info in open_on(Behaviour(OBJECTS, answer_list=page)).list_objects()] == list(OBJECTS)

    @pytest.mark.parametrize(
        "change",
        [
            (b"<ListBucketResult>", b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'),
            (b"<ListBucketResult>", b'<?xml version="1.0"?>\n<ListBucketResult xmlns="urn:other">'),
            (b"<Contents>", b"<Contents><LastModified>yesterday</LastModified>"),
            (b"<Contents>", b"<Contents><LastModified></LastModified>"),
        ],
    )
    def test_namespaces_and_dates_do_not_matter(self, open_on: Open, change: tuple[bytes, bytes]) -> None:
        status, headers, body = listing(OBJECTS, md5_etag)
        answer: Answer = (status, headers, body.replace(*change))
        assert fetch_all(open_on(Behaviour(OBJECTS, answer_list=lambda _: answer))) == list(OBJECTS.values())

    def test_sizes_that_are_not_given_are_seen_later(self, open_on: Open) -> None:
        status, headers, body = listing(OBJECTS, md5_etag)
        answer: Answer = (status, headers, re.sub(rb"<Size>\d+</Size>", b"", body))
        source = open_on(Behaviour(OBJECTS, answer_list=lambda _: answer))
        assert {info.size for info in source.list_objects()} == {-1}
        assert fetch_all(source) == list(OBJECTS.values())

    @pytest.mark.parametrize(
        "change",
        [
            (rb"<Size>\d+<", b"<Size>many<"),
            (rb"<Key>[^<]*</Key>", b""),
            (rb"<IsTruncated>false", b"<IsTruncated>maybe"),
            (rb"<IsTruncated>false</IsTruncated>", b""),
            (rb".*", b'{"keys": []}'),
        ],
    )
    def test_what_is_no_listing_is_refused_in_one_line(self, open_on: Open, change: tuple[bytes, bytes]) -> None:
        status, headers, body = listing(OBJECTS, md5_etag)
        answer: Answer = (status, headers, re.sub(*change, body, count=len(OBJECTS)))
        with pytest.raises(BucketError, match="again and again") as caught:
            list(open_on(Behaviour(OBJECTS, answer_list=lambda _: answer)).list_objects())
        assert "\n" not in str(caught.value)

    def test_what_lies_beside_the_prefix_is_not_taken(self) -> None:
        objects = {"some/k.dcm": b"voxels", "other/k.dcm": b"private"}
        with lesser_server(Behaviour(objects)) as url:
            source = S3Source("eye", "some", endpoint_url=url)
            assert [info.key for info in source.list_objects()] == ["k.dcm"]

    def test_pages_that_go_round_are_refused(self, open_on: Open) -> None:
        turns, some = count(), dict(list(OBJECTS.items())[:4])
        for answer in (
            lambda _: listing(some, md5_etag, more="true"),
            lambda _: listing(some, md5_etag, more="true", token="same"),
            lambda _: listing({}, md5_etag, more="true", token="same"),
            lambda _: listing(some, md5_etag, more="true", token=f"t{next(turns)}"),
            lambda _: listing({}, md5_etag, more="true"),
        ):
            behaviour = Behaviour(OBJECTS, answer_list=answer)
            with pytest.raises(BucketError, match="the listing is cut short") as caught:
                list(open_on(behaviour).list_objects())
            assert behaviour.lists <= 2
            assert "\n" not in str(caught.value)

    def test_a_page_for_people_is_named(self, open_on: Open) -> None:
        source = open_on(Behaviour(OBJECTS, answer_list=lambda _: (200, {"Content-Type": "text/html"}, PAGE)))
        with pytest.raises(BucketError, match="an HTML page came in place of a listing") as caught:
            list(source.list_objects())
        assert "Sign in" not in str(caught.value)

    def test_a_page_in_place_of_an_object_stops_the_run_if_it_stays(self, open_on: Open) -> None:
        behaviour, left = Behaviour(OBJECTS), count(1)
        source = open_on(behaviour)
        info = next(source.list_objects())
        page: Answer = (200, {"Content-Type": "text/html"}, PAGE)
        behaviour.answer_get = lambda _: page if next(left) < 3 else None
        assert source.fetch(info).data == OBJECTS[info.key]
        behaviour.answer_get = lambda _: page
        with pytest.raises(BucketError, match="an HTML page came in place of an object"):
            source.fetch(info)


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    @pytest.mark.parametrize("body", [b"", PAGE, refuse(301, "PermanentRedirect", Endpoint="elsewhere.example")[2]])
    def test_the_place_is_named_once(self, open_on: Open, status: int, body: bytes) -> None:
        answer: Answer = (status, OTHER_PLACE, body)
        behaviour = Behaviour(OBJECTS, answer_list=lambda _: answer, answer_get=lambda _: answer)
        source = open_on(behaviour)
        for call in (
            lambda: list(source.list_objects()),
            lambda: source.fetch(ObjectInfo("k", -1, "")),
            lambda: source.read_optional("participants.tsv"),
        ):
            with pytest.raises(BucketError, match=r"redirects to https://elsewhere\.example;") as caught:
                call()
            assert "\n" not in str(caught.value)
            assert "Signature" not in str(caught.value)
        assert (behaviour.lists, len(behaviour.gets)) == (1, 2)

    @pytest.mark.parametrize(
        ("headers", "more", "words"),
        [
            ({}, {"Endpoint": "s3.eu.example"}, "redirects to s3.eu.example;"),
            ({"x-amz-bucket-region": "eu-central-1"}, {}, "redirects to region eu-central-1;"),
            ({}, {}, "redirects to no place that it names;"),
        ],
    )
    def test_another_region_is_named(
        self, open_on: Open, headers: dict[str, str], more: dict[str, str], words: str
    ) -> None:
        status, _, body = refuse(301, "PermanentRedirect", **more)
        source = open_on(Behaviour(OBJECTS, answer_list=lambda _: (status, headers, body)))
        with pytest.raises(BucketError, match=words):
            list(source.list_objects())


class TestOptionalObjects:
    def test_refused_is_absent_with_a_word(self, open_on: Open, capsys: pytest.CaptureFixture[str]) -> None:
        source = open_on(Behaviour(OBJECTS, answer_get=lambda _: refuse(403, "AccessDenied", "Access Denied")))
        assert source.read_optional("participants.tsv") is None
        assert "participants.tsv is refused (403) and therefore taken for absent" in capsys.readouterr().err

    @pytest.mark.parametrize("answer", [refuse(403, "AccessDenied", CAP), refuse(403, "RequestTimeTooSkewed")])
    def test_an_account_that_is_refused_is_not(self, open_on: Open, answer: Answer) -> None:
        source = open_on(Behaviour(OBJECTS, answer_get=lambda _: answer))
        with pytest.raises(BucketError):
            source.read_optional("participants.tsv")
