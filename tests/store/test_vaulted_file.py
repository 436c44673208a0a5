# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the vaulted file store has: files, modes, owners, vault passwords, and what a crash leaves of them."""

from __future__ import annotations

import errno
import fcntl
import gc
import multiprocessing
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultAES256, VaultLib, VaultSecret
from ansible.utils.display import Display
from surveys import Summary, summary

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import StoreError, UnreadableError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run import shared_memory as run_memory
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.run.threads import _finish_background
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store import vaulted_file, vaulted_file_tree
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Document, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file import VaultedFileStore
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file_cipher import (
    Cipher,
    forget_keys,
)

FORK = multiprocessing.get_context("fork")
PASSWORD = b"PasswordOfTheStoreTests-91bd"
SECRET = "sk-secret-of-the-store-tests"
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="to give a file to somebody else one has to be root")


def opened(path: Path, password: bytes = PASSWORD, mount: str = "mount") -> VaultedFileStore:
    return VaultedFileStore(str(path), mount, [("default", VaultSecret(password))])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def filled(path: Path) -> VaultedFileStore:
    """A store with a document at the top and three in a folder, opened afresh."""
    opened(path).write(
        Write("definitions", {"key": SECRET, "n": 1}),
        *(
            Write(f"leases/abcd/000-{number}", {"name": f"my-precious-{number}"}, due=1000 + number)
            for number in range(3)
        ),
    )
    return opened(path)


def files(path: Path) -> list[Path]:
    """Return the files with documents."""
    found = (file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    return sorted(file for file in found if file.name != ".gitignore")


def snapshot(path: Path) -> dict[str, tuple[bytes, int]]:
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in files(path)}


def refused(function: t.Callable[..., t.Any], *args: t.Any) -> str:
    with pytest.raises(StoreError) as caught:
        result = function(*args)
        if isinstance(result, Iterator):
            list(result)
    text = str(caught.value)
    assert len(text.splitlines()) == 1 and len(text) < 1000
    assert SECRET not in text and PASSWORD.decode() not in text
    return text


def everything_refused(store: VaultedFileStore) -> list[str]:
    """Return what each way to use a store says; all must be refused."""
    return [
        refused(store.read, "definitions"),
        refused(store.write, Write("definitions", {"n": 2}, 1)),
        refused(store.delete, "definitions"),
    ]


def unprivileged(act: t.Callable[[Path], None]) -> None:
    """Do something below a new folder as a user who is not allowed everything; raise what goes wrong."""
    base = Path(tempfile.mkdtemp(prefix="store-"))
    errors = FORK.SimpleQueue()

    def run() -> None:
        try:
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            act(base)
        except BaseException:  # noqa: BLE001 - it is reported
            errors.put(traceback.format_exc())

    if os.geteuid() == 0:
        os.chown(base, NOBODY, NOBODY)
    process = FORK.Process(target=run)
    process.start()
    process.join()
    shutil.rmtree(base)
    assert errors.empty(), errors.get()
    assert process.exitcode == 0


# Modes.


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_and_folders_are_for_nobody_else(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "some" / "where" / "store"
    before = os.umask(umask)
    try:
        store = opened(path)
        for number in range(3):
            store.write(Write("definitions", {"n": number}, number), Write(f"leases/abcd/00{number}-x", {}))
    finally:
        os.umask(before)
    for found in [path, *path.rglob("*")]:
        mode = stat.S_IMODE(found.stat().st_mode)
        assert mode == (0o700 if found.is_dir() else 0o600), found
    for parent in (path.parent, path.parent.parent):
        assert not stat.S_IMODE(parent.stat().st_mode) & 0o022, f"others may put another store in {parent}"


@pytest.mark.parametrize("which", ["", "mount", "mount/leases", "mount/leases/abcd"])
@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707, 0o2775, 0o777, 0o711])
def test_a_folder_of_ours_that_others_can_use_is_closed_to_them(
    path: Path, filled: VaultedFileStore, which: str, mode: int
) -> None:
    """A umask, a copy or Kubernetes' fsGroup has opened it."""
    (path / which).chmod(mode)
    file = next((path / "mount" / "leases" / "abcd").iterdir())
    file.chmod(0o660)
    assert filled.read("leases/abcd/000-0")
    assert stat.S_IMODE((path / which).stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    filled.write(Write("leases/abcd/000-0", {}, 1))


@pytest.mark.parametrize("mode", [0o770, 0o757])
def test_a_folder_that_cannot_be_closed_is_refused_with_one_command_for_all(
    path: Path, filled: VaultedFileStore, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    for folder in (path, path / "mount", path / "mount" / "leases", path / "mount" / "leases" / "abcd"):
        folder.chmod(mode)
    before = snapshot(path)

    def fail(*_args: t.Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    # Both what a file system says that has no permissions, and one that takes them and does nothing.
    for fchmod in (fail, lambda *_args: None):
        monkeypatch.setattr(os, "fchmod", fchmod)
        for act in (lambda: filled.write(Write("leases/abcd/000-0", {}, 1)), lambda: filled.read("leases/abcd/000-0")):
            text = refused(act)
            assert f"chmod -R go-rwx {path}" in text and "fsGroup" in text
    assert snapshot(path) == before
    monkeypatch.undo()
    assert filled.read("leases/abcd/000-0")


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o1777])
def test_a_folder_that_holds_more_than_a_store_is_not_closed_to_others(path: Path, mode: int) -> None:
    """It may be a home, a project or /tmp, which would then be of no use to them."""
    path.mkdir()
    (path / "somebody-elses").mkdir()
    path.chmod(mode)
    store = opened(path)
    if mode == 0o755:
        store.write(Write("definitions", {}))
        assert store.read("definitions")
    else:
        for act in (lambda: store.read("definitions"), lambda: store.write(Write("definitions", {}))):
            assert "holds more than a store; name a folder of its own" in refused(act)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert not (path / ".gitignore").exists(), "git would ignore all that is there"


def test_a_folder_made_for_the_store_is_closed_to_others(path: Path) -> None:
    path.mkdir()
    path.chmod(0o775)
    opened(path).write(Write("definitions", {}))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


# Links and owners.


@pytest.mark.parametrize("which", ["", "mount", "mount/leases", "mount/leases/abcd"])
def test_a_folder_that_is_a_link_is_refused(path: Path, filled: VaultedFileStore, which: str) -> None:
    """Whoever can put a link there decides what is read and where keys are written to."""
    folder = path / which
    elsewhere = path.parent / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    before = snapshot(elsewhere)
    document = "leases/abcd/000-0"
    assert "symbolic link" in refused(opened(path).read, document)
    assert "symbolic link" in refused(opened(path).write, Write(document, {}, 1))
    assert "symbolic link" in refused(opened(path).delete, document)
    for found in (lambda: opened(path).scan("leases/"), lambda: opened(path).survey("leases/", 0, tidy=False).due):
        if which in ("", "mount"):
            assert "symbolic link" in refused(found)
        else:
            (error,) = found()
            assert isinstance(error, UnreadableError) and "symbolic link" in str(error)
    assert snapshot(elsewhere) == before


@pytest.mark.parametrize("dangling", [False, True])
def test_a_file_that_is_a_link_is_refused(path: Path, filled: VaultedFileStore, dangling: bool) -> None:
    file = next((path / "mount").glob("definitions.*"))
    elsewhere = path.parent / "elsewhere"
    if not dangling:
        file.rename(elsewhere)
    else:
        file.unlink()
    file.symlink_to(elsewhere)
    for text in everything_refused(filled):
        assert "symbolic link" in text and str(file) in text
    assert elsewhere.exists() is not dangling


def test_a_file_that_is_none_is_refused(path: Path, filled: VaultedFileStore) -> None:
    file = next((path / "mount").glob("definitions.*"))
    file.unlink()
    os.mkfifo(file, 0o600)
    everything_refused(filled)
    file.unlink()
    file.mkdir()
    everything_refused(filled)


@pytest.mark.parametrize("which", ["", "mount"])
def test_a_folder_that_is_a_file_is_refused(path: Path, which: str) -> None:
    folder = path / which
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("I was here first")
    assert "not a folder" in refused(opened(path).read, "definitions")
    assert "not a folder" in refused(opened(path).write, Write("definitions", {}))
    assert folder.read_text() == "I was here first"


@needs_root
@pytest.mark.parametrize("which", ["", "mount", "mount/leases", "mount/leases/abcd"])
def test_a_folder_of_somebody_else_is_refused(path: Path, filled: VaultedFileStore, which: str) -> None:
    os.chown(path / which, NOBODY, NOBODY)
    before = snapshot(path)
    assert "belongs to another user" in refused(filled.read, "leases/abcd/000-0")
    assert "belongs to another user" in refused(filled.write, Write("leases/abcd/000-0", {}, 1))
    assert snapshot(path) == before


@needs_root
def test_a_file_of_somebody_else_is_refused(path: Path, filled: VaultedFileStore) -> None:
    os.chown(next((path / "mount").glob("definitions.*")), NOBODY, NOBODY)
    before = snapshot(path)
    assert all("belongs to another user" in text for text in everything_refused(filled))
    assert snapshot(path) == before


# Passwords.


def test_without_a_secret_it_says_what_to_give(path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        VaultedFileStore(str(path), "mount", [])
    for option in ("--vault-password-file", "--ask-vault-pass", "--vault-id", "ANSIBLE_VAULT_PASSWORD_FILE"):
        assert option in str(caught.value)
    assert not path.exists()


def test_a_wrong_password_changes_nothing(path: Path, filled: VaultedFileStore) -> None:
    before = snapshot(path)
    for text in everything_refused(opened(path, b"another password")):
        assert "wrong vault password" in text and "nothing was changed" in text
    assert snapshot(path) == before
    assert filled.read("definitions") == Document("definitions", {"key": SECRET, "n": 1}, 1)


def test_several_vault_ids(path: Path) -> None:
    dev, prod = ("dev", VaultSecret(b"password of dev")), ("prod", VaultSecret(b"password of prod"))
    VaultedFileStore(str(path), "mount", [dev, prod]).write(Write("first", {"n": 1}))
    VaultedFileStore(str(path), "mount", [dev, prod], "prod").write(Write("second", {"n": 2}))
    headers = [file.read_bytes().splitlines()[0] for file in files(path)]
    assert headers == [b"$ANSIBLE_VAULT;1.2;AES256;dev", b"$ANSIBLE_VAULT;1.2;AES256;prod"]
    for secrets in ([dev, prod], [prod, dev]):
        store = VaultedFileStore(str(path), "mount", secrets)
        assert store.read("first") and store.read("second")
    only = VaultedFileStore(str(path), "mount", [prod])
    assert only.read("second")
    assert "wrong vault password" in refused(only.read, "first")
    store = VaultedFileStore(str(path), "mount", [dev, prod], "prod")
    store.write(Write("first", {"n": 3}, 1))
    assert only.read("first") == Document("first", {"n": 3}, 2)


def test_a_store_keeps_its_password_whatever_else_is_given(path: Path) -> None:
    """A password for other files, given before its own and under the same vault id, would leave a store that neither opens."""
    ours, other = ("default", VaultSecret(PASSWORD)), ("default", VaultSecret(b"password of other files"))
    VaultedFileStore(str(path), "mount", [ours]).write(Write("definitions", {"n": 1}))
    for given in ([other, ours], [ours, other]):
        for fresh in range(2):
            store = VaultedFileStore(str(path), "mount", given)
            if not fresh:
                store.prepare(writes=1)
            name = f"leases/abcd/1-{'o' if given[0] is ours else 'x'}{fresh}"
            store.write(Write(name, {}, due=1))
            store.write(Write("definitions", {"n": 1}, store.read("definitions").version))  # type: ignore[union-attr]
    assert len(list(VaultedFileStore(str(path), "mount", [ours]).scan("leases/"))) == 4
    # A new store has the first, and vault_encrypt_identity changes it.
    VaultedFileStore(str(path), "new", [other, ours]).write(Write("definitions", {}))
    assert VaultedFileStore(str(path), "new", [other]).read("definitions")
    old, new = ("old", ours[1]), ("new", other[1])
    VaultedFileStore(str(path), "mount", [old, new], "new").write(Write("leases/abcd/2-x", {}, due=1))
    assert VaultedFileStore(str(path), "mount", [new]).read("leases/abcd/2-x")


def test_an_identity_that_there_is_not_is_named_and_leaves_nothing(path: Path, filled: VaultedFileStore) -> None:
    before = snapshot(path)
    store = VaultedFileStore(str(path), "mount", [("default", VaultSecret(PASSWORD))], "nonsense")
    assert refused(store.write, Write("definitions", {}, 1)).startswith("vault_encrypt_identity:")
    assert snapshot(path) == before


def run_vault(*args: str, password: Path) -> str:
    """Run the real ansible-vault."""
    done = subprocess.run(
        (str(Path(sys.executable).parent / "ansible-vault"), *args, "--vault-password-file", str(password)),
        env={"PATH": os.environ["PATH"], "HOME": str(password.parent), "ANSIBLE_LOCALHOST_WARNING": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ansible_vault_views_and_rekeys(path: Path, filled: VaultedFileStore, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(PASSWORD)
    new.write_bytes(b"the new password")
    assert filled.read("definitions")
    shown = run_vault("view", *(str(file) for file in files(path)), password=old)
    assert SECRET in shown and all(f"my-precious-{number}" in shown for number in range(3))
    run_vault("rekey", "--new-vault-password-file", str(new), *(str(file) for file in files(path)), password=old)
    again = opened(path, b"the new password")
    assert again.read("definitions") == Document("definitions", {"key": SECRET, "n": 1}, 1)
    assert len(list(again.scan("leases/"))) == 3
    assert summary(again, "leases/") == Summary(3, 1000)
    for reader in (opened(path), filled):
        assert "wrong vault password" in refused(reader.read, "definitions")
    again.write(Write("definitions", {"n": 2}, 1))
    again.delete("leases/abcd/000-0")
    assert summary(opened(path, b"the new password"), "leases/").count == 2
    for found in [path, *path.rglob("*")]:
        assert stat.S_IMODE(found.stat().st_mode) == (0o700 if found.is_dir() else 0o600), found


def test_nothing_readable_is_on_disk(path: Path, filled: VaultedFileStore) -> None:
    filled.write(Write("definitions", {"key": SECRET, "role-called-xyzzy": {"project": "proj_plugh"}}, 1))
    for found in path.rglob("*"):
        text = str(found.relative_to(path)).encode() + (found.read_bytes() if found.is_file() else b"")
        for word in (SECRET, "my-precious", "xyzzy", "plugh", "role", "sk-"):
            assert word.encode() not in text and word.encode().hex().encode() not in text, found
    for file in files(path):
        assert file.read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")


def test_no_two_files_share_a_salt(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible has a setting for a fixed salt: with it, two files would be encrypted with one key stream."""
    from ansible import constants

    true = constants.config.get_config_value

    def fixed(name: str, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return "the same salt" if name == "VAULT_ENCRYPT_SALT" else true(name, *args, **kwargs)

    monkeypatch.setenv("ANSIBLE_VAULT_ENCRYPT_SALT", "the same salt")
    monkeypatch.setattr(constants.config, "get_config_value", fixed)
    probe = VaultLib([("default", VaultSecret(PASSWORD))])
    assert probe.encrypt("x") == probe.encrypt("x"), "the setting is as this test takes it to be"
    store = opened(path)
    store.write(Write("a", {"n": 1}), Write("b", {"n": 1}))
    contents = [file.read_bytes() for file in files(path)]
    store.write(Write("a", {"n": 1}, 1))
    contents += [file.read_bytes() for file in files(path)][:1]
    salts = [bytes.fromhex(b"".join(content.splitlines()[1:]).decode()).split(b"\n")[0] for content in contents]
    assert len(set(salts)) == 3
    assert opened(path).read("a") == Document("a", {"n": 1}, 2)


def salt_of(file: Path) -> bytes:
    return bytes.fromhex(b"".join(file.read_bytes().splitlines()[1:]).decode()).split(b"\n")[0]


@pytest.mark.parametrize("settled", [True, False])
def test_getting_ready_in_a_parent_gives_children_no_salt_in_common(
    path: Path, filled: VaultedFileStore, settled: bool
) -> None:
    """Two files with one salt are encrypted with one key stream: their difference can be read without a password."""
    filled.prepare(writes=2)
    time.sleep(0.2 if settled else 0)
    # A child that waits for its parent waits for ever; a slow machine is not mistaken for that.
    end = time.monotonic() + 60

    def write(number: int) -> None:
        filled.write(Write(f"made/by{number}", {"n": number}))

    processes = [FORK.Process(target=write, args=(number,)) for number in range(4)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(max(0, end - time.monotonic()))
        assert [process.exitcode for process in processes] == [0] * 4, "a child waits for what its parent was doing"
    finally:
        for process in processes:
            process.kill()
            process.join()
    salts = [salt_of(file) for file in files(path)]
    assert len(set(salts)) == len(salts) == 6


def test_getting_ready_in_many_threads(path: Path, filled: VaultedFileStore) -> None:
    errors = []

    def write(number: int) -> None:
        try:
            for turn in range(6):
                if turn % 2:
                    filled.prepare(writes=1)
                filled.write(
                    Write(f"made/{filled.new_key('made', 0)}", {"n": number}), Write(f"made/x{number}_{turn}", {})
                )
        except BaseException:  # noqa: BLE001 - it is reported
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    assert summary(opened(path), "made/").count == 96
    salts = [salt_of(file) for file in files(path)]
    assert len(set(salts)) == len(salts)


@pytest.mark.parametrize("writes", [0, 1, 5])
def test_getting_ready_for_nothing_or_too_little(path: Path, filled: VaultedFileStore, writes: int) -> None:
    filled.prepare(writes=writes)
    for number in range(3):
        filled.write(Write(f"doc{number}", {}))
    wrong = opened(path, b"another password")
    wrong.prepare(writes=writes)
    refused(wrong.write, Write("definitions", {}, 1))
    assert filled.read("doc2")


def test_what_will_be_read_has_its_key_derived_once_and_meanwhile(
    path: Path, filled: VaultedFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.write(Write("claims/68-a", {"n": 1}), Write("claims/68-b", {"n": 2}))
    run_memory.FILES._memory[:] = bytes(len(run_memory.FILES._memory))
    # Other tests have had keys derived that they did not wait for.
    _finish_background()
    forget_keys()
    threads: list[str] = []
    true = Cipher.derive_key

    def derive(content: bytes, secret: t.Any) -> None:
        threads.append(threading.current_thread().name)
        true(content, secret)

    monkeypatch.setattr(Cipher, "derive_key", staticmethod(derive))
    store = opened(path)
    store.expect_reads("claims/68-", "nothing/there-", "definitions")
    assert len(list(store.scan("claims/68-"))) == 2 and store.read("definitions")
    assert len(threads) == 2 and threading.current_thread().name not in threads
    assert VaultAES256._gen_key_initctr.cache_info().misses == 2


# Damage.


def damaged(path: Path, content: bytes) -> VaultedFileStore:
    file = next((path / "mount").glob("definitions.*"))
    file.write_bytes(content)
    return opened(path)


def test_a_damaged_file_is_named_and_kept(path: Path, filled: VaultedFileStore) -> None:
    file = next((path / "mount").glob("definitions.*"))
    good = file.read_bytes()
    vault = VaultLib([("default", VaultSecret(PASSWORD))])
    contents = [
        b"",
        b"\n",
        b"{}",
        b"$ANSIBLE_VAULT;",
        b"$ANSIBLE_VAULT;1.1;AES256\n",
        b"\0" * 600,
        good[:-1] + b"zz",
        good * 2,
    ]
    contents += [good[:length] for length in range(1, len(good) - 1, 61)]
    contents += [good.replace(b"AES256", b"AES128"), good.replace(b"\n", b"\r\n", 1)[:200]]
    others = [
        "[]",
        "{}",
        "1",
        "x",
        "null",
        '{"documents": []}',
        '{"documents": {"definitions": 1}}',
        '{"documents": null}',
    ]
    others += [
        '{"documents": {"definitions": {"data": 1, "version": 1, "due": 0}}}',
        '{"documents": {"definitions": {}}}',
    ]
    others += ['{"documents": {"definitions": {"data": {}, "version": "x", "due": 0}}}', "", "\ufffd" * 10]
    contents += [vault.encrypt(other) for other in others if other]
    for content in contents:
        store = damaged(path, content)
        before = snapshot(path)
        for text in everything_refused(store):
            assert str(file) in text and "corrupted" in text, (content[:80], text)
        assert snapshot(path) == before
    assert damaged(path, good).read("definitions") == Document("definitions", {"key": SECRET, "n": 1}, 1)


def test_a_flipped_bit_is_never_taken_for_data(path: Path, filled: VaultedFileStore) -> None:
    file = next((path / "mount").glob("definitions.*"))
    good = file.read_bytes()
    chosen = [*range(30), *range(30, len(good), 13)]
    for position in chosen:
        flipped = bytearray(good)
        flipped[position] ^= 1 << (position % 8)
        store = damaged(path, bytes(flipped))
        try:
            # Hexadecimal digits in capitals are the same data, and so is white space at the end.
            assert store.read("definitions") == Document("definitions", {"key": SECRET, "n": 1}, 1)
        except StoreError as error:
            assert str(file) in str(error) and len(str(error).splitlines()) == 1


def test_what_is_nested_too_deeply_is_damage_too(path: Path, filled: VaultedFileStore) -> None:
    vault = VaultLib([("default", VaultSecret(PASSWORD))])
    store = damaged(path, vault.encrypt("[" * 200_000))
    everything_refused(store)


def test_other_files_in_the_folder_do_not_matter(path: Path, filled: VaultedFileStore) -> None:
    """Somebody's backups, an editor's leftovers, a file manager's."""
    for name in (
        "README",
        ".DS_Store",
        "definitions",
        "definitions.bak",
        "definitions.1.1.x",
        "definitions.a.b.c",
        "x.1.2",
    ):
        (path / "mount" / f"{name}~").write_text("not ours")
        (path / "mount" / name).write_text("not ours")
    (path / "mount" / "leases" / "notes.txt").write_text("not ours")
    (path / "mount" / "leases" / "abcd" / "000.old.copy.x").write_text("not ours")
    assert filled.read("definitions") == Document("definitions", {"key": SECRET, "n": 1}, 1)
    filled.write(Write("definitions", {"n": 2}, 1), Write("leases/abcd/000-9", {}))
    assert summary(filled, "leases/").count == 4
    filled.delete("definitions", "leases/abcd/000-9")
    assert opened(path).read("definitions") is None
    assert (path / "mount" / "definitions.bak").read_text() == "not ours"


# What the processes of a run tell each other.


def in_a_worker(function: t.Callable[[], object]) -> None:
    worker = FORK.Process(target=function)
    worker.start()
    worker.join()
    assert worker.exitcode == 0


@pytest.mark.parametrize("size", [0, 200_000])
def test_what_one_worker_has_read_or_written_the_next_one_need_not_decrypt(
    path: Path, filled: VaultedFileStore, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    data = {"n": "x" * size}
    decrypted: list[str] = []
    true = Cipher.decrypt

    def decrypt(cipher: Cipher, at: str, content: bytes) -> t.Any:
        decrypted.append(at)
        return true(cipher, at, content)

    monkeypatch.setattr(Cipher, "decrypt", decrypt)
    in_a_worker(lambda: opened(path).write(Write("definitions", data, 1)))
    assert opened(path).read("definitions") == Document("definitions", data, 2) and decrypted == []
    # Not by whoever has another password, and not what is another file by now.
    assert "wrong vault password" in refused(opened(path, b"another").read, "definitions")
    assert len(decrypted) == 1
    (file,) = (path / "mount").glob("definitions.*")
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    file.chmod(0o600)
    assert opened(path).read("definitions") == Document("definitions", data, 2) and len(decrypted) == 2
    file.write_bytes(b"$ANSIBLE_VAULT;1.1;AES256\n00")
    assert "nothing was changed" in refused(opened(path).read, "definitions")


def test_what_is_large_is_remembered_only_where_all_tasks_read_it(path: Path, filled: VaultedFileStore) -> None:
    filled.write(
        Write("leases/000-large", {"text": SECRET + "x" * 20_000}), Write("leases/001-small", {"text": SECRET})
    )
    memory = run_memory.FILES._memory[:]
    assert b"x" * 100 not in memory and SECRET.encode() in memory
    filled.write(Write("large", {"text": "x" * 20_000}))
    assert b"x" * 100 in run_memory.FILES._memory[:]
    assert PASSWORD not in memory and PASSWORD.hex().encode() not in memory


# What a killed writer leaves.


def test_an_unfinished_file_is_not_seen_and_goes_when_it_is_old(path: Path, filled: VaultedFileStore) -> None:
    leftovers = [path / "mount" / ".tmp-1-abc", path / "mount" / "leases" / "abcd" / ".tmp-2-def"]
    for leftover in leftovers:
        leftover.write_bytes(b"$ANSIBLE_VAULT;1.1;AES256\n61")
        leftover.chmod(0o600)
    assert filled.read("definitions") and len(list(filled.scan("leases/"))) == 3
    assert summary(filled, "leases/") == Summary(3, 1000)
    for leftover in leftovers:
        os.utime(leftover, (time.time() - 90_000,) * 2)
    filled.write(Write("definitions", {"n": 2}, 1), Write("leases/abcd/000-9", {}))
    assert not any(leftover.exists() for leftover in leftovers)


def with_an_older_generation(path: Path, document: str) -> None:
    """Do one write to a document as a writer does who is killed before he removes the old file."""
    folder = path / "mount"
    (old,) = folder.glob("definitions.*")
    content, name = old.read_bytes(), old.name
    store = opened(path)
    current = store.read(document)
    assert current
    store.write(Write(document, {"n": "newer"}, current.version))
    (folder / name).write_bytes(content)
    (folder / name).chmod(0o600)
    assert len(list(folder.glob("definitions.*"))) == 2


def test_an_older_generation_beside_a_newer_is_not_seen_and_goes(path: Path, filled: VaultedFileStore) -> None:
    with_an_older_generation(path, "definitions")
    store = opened(path)
    assert store.read("definitions") == Document("definitions", {"n": "newer"}, 2)
    store.write(Write("definitions", {"n": "newest"}, 2))
    assert len(list((path / "mount").glob("definitions.*"))) == 1
    assert opened(path).read("definitions") == Document("definitions", {"n": "newest"}, 3)


def test_what_was_deleted_does_not_come_back_from_an_older_generation(
    path: Path, filled: VaultedFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither to a reader who looks while a deletion goes on, nor after one that was killed."""
    with_an_older_generation(path, "definitions")
    true_unlink, true_listdir = os.unlink, os.listdir
    seen = []

    def unlink(name: t.Any, *args: t.Any, **kwargs: t.Any) -> None:
        true_unlink(name, *args, **kwargs)
        document = opened(path).read("definitions")
        seen.append(document.data["n"] if document else None)

    monkeypatch.setattr(os, "unlink", unlink)
    # Folders list their files in any order.
    monkeypatch.setattr(os, "listdir", lambda folder: sorted(true_listdir(folder), reverse=True))
    opened(path).delete("definitions")
    assert seen and set(seen) <= {"newer", None}, seen


@pytest.mark.once
def test_sigkill_at_any_instant_leaves_a_whole_store(path: Path) -> None:
    """200 writers are killed; after each, all that they were told was written is there, and whole."""
    steady, other = "leases/abcd/000-steady", "leases/abcd/001-other"

    def write(done: t.Any, version: int) -> None:
        store = opened(path)
        done.send(version)
        while True:
            data = {"version": version, "text": str(version) * 500}
            store.write(Write(steady, data, version, due=version))
            version += 1
            done.send(version)
            current = store.read(other)
            if version % 2:
                store.delete(other)
            else:
                store.write(Write(other, {"n": version}, current.version if current else 0))

    version = 0
    randomly = random.Random(7)
    reader = opened(path)
    # A busy machine writes slower, and a writer must get somewhere before it is killed.
    began = time.monotonic()
    reader.write(Write("somewhere/else", {}))
    span = max(0.04, 4 * (time.monotonic() - began))
    for number in range(200):
        here, there = FORK.Pipe(duplex=False)
        process = FORK.Process(target=write, args=(there, version))
        process.start()
        there.close()
        acknowledged = here.recv()
        time.sleep(randomly.uniform(0, span))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        try:
            while True:
                acknowledged = here.recv()
        except EOFError:
            here.close()
        if acknowledged == version:
            # The machine has become busier since.
            span *= 1.1
        for store in (reader, opened(path)) if number % 10 == 0 else (reader,):
            found = {document.path: document for document in store.scan("leases/")}
            document = store.read(steady)
            version = document.version if document else 0
            assert acknowledged <= version <= acknowledged + 1
            if document:
                data = {"version": version - 1, "text": str(version - 1) * 500}
                assert found.pop(steady) == document and document.data == data
                assert (summary(store, "leases/").earliest_due or 0) <= version
            assert set(found) <= {other}
            assert summary(store, "leases/").count == len(found) + bool(document)
    assert version > 50, "writers were killed before they wrote anything"
    temporary = list(path.rglob(".tmp-*"))
    assert len(temporary) <= 200
    for file in files(path):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("how", ["read", "scan", "summary"])
def test_a_listing_that_a_writer_gets_in_between_misses_nothing(
    path: Path, filled: VaultedFileStore, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Folders of many files are not listed at one instant: what comes and goes meanwhile may show or not."""
    true, writer, versions = os.listdir, opened(path), [1, 2]

    def listdir(folder: t.Any) -> list[str]:
        names = true(folder)
        if str(folder).endswith("abcd") and versions:
            time.sleep(0.02)  # Folders tell the time of their last change in ticks.
            with monkeypatch.context() as patch:
                patch.setattr(os, "listdir", true)
                writer.write(Write("leases/abcd/000-1", {"n": "new"}, versions.pop(0), due=1001))
            return [name for name in names if name in true(folder)]
        return names

    monkeypatch.setattr(os, "listdir", listdir)
    if how == "read":
        assert filled.read("leases/abcd/000-0") == Document("leases/abcd/000-0", {"name": "my-precious-0"}, 1)
    elif how == "scan":
        assert len(list(filled.scan("leases/"))) == 3
    else:
        assert summary(filled, "leases/") == Summary(3, 1000)
    assert not versions, "nobody got in between"


def test_a_busy_folder_can_be_read_all_the_same(path: Path, filled: VaultedFileStore) -> None:
    """Whoever looks again and again until nothing changes may look for ever."""
    folder = path / "mount" / "leases" / "abcd"
    (file,) = folder.iterdir()
    for number in range(2000):
        os.link(file, folder / f"{1000 + number}.1.1.{1790000000 + number}")
    over = FORK.Event()

    def disturb() -> None:
        while not over.is_set():
            os.rename(folder / "1000.1.1.1790000000", folder / "1000.2.1.1790000000")
            os.rename(folder / "1000.2.1.1790000000", folder / "1000.1.1.1790000000")

    process = FORK.Process(target=disturb)
    process.start()
    finished = threading.Event()

    def look() -> None:
        filled.read("leases/abcd/000-0")
        summary(filled, "leases/")
        finished.set()

    threading.Thread(target=look, daemon=True).start()
    try:
        assert finished.wait(3)
    finally:
        over.set()
        process.join()


def test_the_folder_that_is_locked_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may wait for its lock already; they and whoever makes it anew would hold different ones."""

    def fail(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(vaulted_file.os, "fsync", fail)
    refused(opened(path).write, Write("definitions", {}))
    monkeypatch.undo()
    assert (path / "mount").is_dir() and not list((path / "mount").iterdir())


# What the file system refuses.


@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_what_the_file_system_refuses_is_a_sentence(
    path: Path, filled: VaultedFileStore, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    before = snapshot(path)

    def fail(*args: t.Any, **kwargs: t.Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(vaulted_file.os, call, fail)
    text = refused(filled.write, Write("intents/new/a", {}))
    assert text.startswith("store_path:") and os.strerror(number) in text
    monkeypatch.undo()
    assert snapshot(path) == before, "nothing is left behind"
    assert opened(path).read("definitions") and opened(path).read("intents/new/a") is None


def test_a_full_disk(path: Path, filled: VaultedFileStore) -> None:
    """A limit on the size of files fails in the middle of a write, as a full disk does."""
    before = snapshot(path)
    errors = FORK.SimpleQueue()

    def run() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            filled.write(Write("definitions", {"big": "x" * 50_000}, 1))
        except StoreError as error:
            errors.put(str(error))
        except BaseException:  # noqa: BLE001 - it is reported
            errors.put(traceback.format_exc())
        else:
            errors.put("it was written")

    process = FORK.Process(target=run)
    process.start()
    process.join()
    text = errors.get()
    assert text.startswith("store_path:") and os.strerror(errno.EFBIG) in text and len(text.splitlines()) == 1, text
    assert snapshot(path) == before


@pytest.mark.parametrize("which", ["store/mount", "store/mount/leases", "store/mount/leases/abcd"])
@pytest.mark.parametrize("mode", [0o500, 0o000, 0o400])
@pytest.mark.parametrize("act", ["write", "delete"])
def test_folders_without_permission_are_a_sentence(which: str, mode: int, act: str) -> None:
    def run(base: Path) -> None:
        path = base / "store"
        opened(path).write(Write("definitions", {"n": 1}), Write("leases/abcd/000-1", {}))
        (base / which).chmod(mode)
        try:
            with pytest.raises(StoreError) as caught:
                if act == "write":
                    new = Write("definitions", {}, 1) if which == "store/mount" else Write("leases/abcd/000-2", {})
                    new = Write("leases/other/000-2", {}) if which.endswith("leases") else new
                    opened(path).write(new)
                else:
                    opened(path).delete("definitions" if which == "store/mount" else "leases/abcd/000-1")
                    if which.endswith("leases"):
                        raise StoreError("store_path: what is below may still be written: Permission denied")
            assert str(caught.value).startswith("store_path:") and "Permission denied" in str(caught.value)
        finally:
            (base / which).chmod(0o700)

    unprivileged(run)


def test_a_place_where_nothing_can_be_made_is_a_sentence() -> None:
    def run(base: Path) -> None:
        base.chmod(0o500)
        try:
            for path in (base / "store", base / "a" / "b" / "store"):
                assert "Permission denied" in refused(opened(path).write, Write("definitions", {}))
                assert opened(path).read("definitions") is None
        finally:
            base.chmod(0o700)

    unprivileged(run)


def test_out_of_file_descriptors_is_a_sentence(path: Path, filled: VaultedFileStore) -> None:
    results = FORK.SimpleQueue()

    def run() -> None:
        held = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for act in (
            lambda: filled.read("definitions"),
            lambda: filled.write(Write("definitions", {}, 1)),
            lambda: filled.delete("definitions"),
        ):
            try:
                act()
                results.put("done")
            except StoreError as error:
                results.put(str(error))
            except BaseException as error:  # noqa: BLE001 - it is reported
                results.put(repr(error))

    process = FORK.Process(target=run)
    process.start()
    process.join()
    for _unused in range(3):
        assert (text := results.get()).startswith("store_path:"), text


# Locks.


def test_a_holder_of_the_lock_who_stands_still_is_not_waited_for_for_ever(
    path: Path, filled: VaultedFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = FORK.Pipe()

    def hold() -> None:
        descriptor = os.open(path / "mount", os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        there.send("held")
        time.sleep(60)

    process = FORK.Process(target=hold)
    process.start()
    try:
        here.recv()
        os.kill(process.pid or 0, signal.SIGSTOP)
        monkeypatch.setattr(vaulted_file_tree, "_LOCK_SECONDS", 0.3)
        started = time.monotonic()
        assert "locked by another process" in refused(filled.write, Write("definitions", {}, 1))
        assert "locked by another process" in refused(filled.delete, "definitions")
        assert 0.5 < time.monotonic() - started < 30
        assert filled.read("definitions"), "readers take no lock"
        assert len(list(filled.scan("leases/"))) == 3
    finally:
        process.kill()
        process.join()
    filled.write(Write("definitions", {"n": 2}, 1))


def test_a_killed_holder_of_the_lock_holds_it_no_more(path: Path, filled: VaultedFileStore) -> None:
    here, there = FORK.Pipe()

    def hold() -> None:
        with filled._tree.locked(create=True):
            there.send("held")
            time.sleep(60)

    process = FORK.Process(target=hold)
    process.start()
    here.recv()
    process.kill()
    process.join()
    started = time.monotonic()
    filled.write(Write("definitions", {"n": 2}, 1))
    assert time.monotonic() - started < 30


def test_no_descriptor_is_left_open(path: Path, filled: VaultedFileStore) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for version in range(1, 12):
        filled.write(Write("definitions", {"n": version}, version))
        with pytest.raises(StoreError):
            filled.write(Write("definitions", {}, 77))
        list(filled.scan("leases/"))
    filled.delete("definitions")
    assert len(os.listdir("/proc/self/fd")) <= before


def test_what_goes_on_in_the_background_never_holds_ansible_up(
    path: Path, filled: VaultedFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that ends while a thread holds the lock of Ansible's result queue would stop the run for ever."""
    showing = []
    for name in ("display", "verbose", "v", "vv", "vvv", "vvvv", "vvvvv", "debug"):
        monkeypatch.setattr(Display, name, lambda *_args, **_kwargs: showing.append(threading.current_thread()))
    store, before = opened(path), set(threading.enumerate())
    store.prepare(writes=2)
    store.new_key("leases/abcd", 1000)
    store.expect_reads("definitions", "claims/68-")
    assert not [thread for thread in set(threading.enumerate()) - before if thread.daemon]
    child = os.fork()
    if not child:
        os._exit(len(threading.enumerate()) - 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not [thread for thread in threading.enumerate() if "quietly" in thread.name]
    assert set(showing) <= {threading.main_thread()}
