# SPDX-License-Identifier: GPL-3.0-or-later
"""What users, other programs and disks do to vaulted files: one of them stops nothing but itself, and nothing is lost."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible import constants
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import StoreError, UnreadableError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store import file_system
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Document, Write
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.vaulted_file import (
    GROUP_SIZE,
    VaultedFileStore,
)

SECRETS = [("default", VaultSecret(b"PasswordOfTheStoreTests-91bd"))]
HOUR = "leases/abcd"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="to give a file to somebody else one has to be root")
not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root is denied nothing")


class Opened(t.NamedTuple):
    store: VaultedFileStore
    warnings: list[str]


def opened(path: Path, secrets: t.Any = None) -> Opened:
    warnings: list[str] = []
    return Opened(VaultedFileStore(str(path), "mount", secrets or SECRETS, None, warnings.append), warnings)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with the definitions, an intent, and two groups of leases in each of two hours."""
    path = tmp_path / "store"
    leases = [f"leases/{hour}/{group}-{key}" for hour in ("abcd", "abce") for group in ("000", "001") for key in "xy"]
    opened(path).store.write(
        Write("definitions", {"n": 1}), Write("intents/one", {}), *(Write(lease, {"n": lease}) for lease in leases)
    )
    return path


def file_of(path: Path, folder: str, group: str) -> Path:
    (file,) = (path / "mount" / folder).glob(f"{group}.*")
    return file


def looked(store: VaultedFileStore, prefix: str, how: str) -> tuple[set[str], list[str]]:
    """Return the paths of what is found, and why the rest is not."""
    found = list(store.scan(prefix) if how == "scan" else store.survey(prefix, 10**9, tidy=True).due)
    paths = {one.path for one in found if isinstance(one, Document)}
    return paths, [str(one) for one in found if isinstance(one, UnreadableError)]


# Something cannot be read.


def damage(file: Path, kind: str) -> None:
    content = file.read_bytes()
    if kind == "zeros":
        file.write_bytes(b"\0" * len(content))
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif kind == "not vaulted":
        file.write_text("documents: {}")
    elif kind == "another password":
        file.write_text(VaultLib([("default", VaultSecret(b"another"))]).encrypt(b'{"documents": {}}').decode())
    elif kind == "other JSON":
        file.write_bytes(VaultLib(SECRETS).encrypt('{"something": "else"}'))
    elif kind == "copy of another group":
        shutil.copy(next(file.parent.parent.glob("abce/001.*")), file)
    else:
        file.unlink()
        if kind == "folder":
            file.mkdir(0o700)
        elif kind == "link":
            file.symlink_to("/dev/null")
        elif kind == "pipe":
            os.mkfifo(file, 0o600)
        elif kind == "no permission":
            file.write_bytes(content)
            file.chmod(0)
        else:
            assert kind == "somebody else's"
            file.write_bytes(content)
            os.chown(file, 65534, 65534)


KINDS = ["zeros", "empty", "truncated", "not vaulted", "another password", "other JSON", "copy of another group"]
KINDS += ["folder", "link", "pipe", pytest.param("somebody else's", marks=needs_root)]  # type: ignore[list-item]
KINDS += [pytest.param("no permission", marks=not_root)]  # type: ignore[list-item]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_cannot_be_read_hides_nothing_but_itself(path: Path, kind: str) -> None:
    everything = {one.path for one in opened(path).store.scan("leases/") if isinstance(one, Document)}
    file = file_of(path, HOUR, "000")
    damage(file, kind)
    others = everything - {f"{HOUR}/000-x", f"{HOUR}/000-y"}
    for how in ("scan", "survey"):
        paths, errors = looked(opened(path).store, "leases/", how)
        assert paths == others and len(errors) == 1 and str(file) in errors[0], (paths, errors)
    store = opened(path).store
    found = list(store.read_each([*sorted(everything)]))
    assert {one.path for one in found if isinstance(one, Document)} == others
    assert len([one for one in found if isinstance(one, UnreadableError)]) == 2
    with pytest.raises(UnreadableError, match=re.escape(str(file))):
        store.read(f"{HOUR}/000-x")
    with pytest.raises(UnreadableError, match=re.escape(str(file))):
        store.delete(*sorted(everything))
    assert looked(store, "leases/", "scan")[0] == set()


@pytest.mark.parametrize("kind", ["link", "file", "no permission", pytest.param("somebody else's", marks=needs_root)])
def test_a_folder_that_cannot_be_used_hides_nothing_but_itself(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = path / "mount" / HOUR
    if kind == "link":
        folder.rename(path.parent / "elsewhere")
        folder.symlink_to(path.parent / "elsewhere")
    elif kind == "file":
        shutil.rmtree(folder)
        folder.write_text("")
    elif kind == "somebody else's":
        os.chown(folder, 65534, 65534)
    else:
        true = os.listdir

        def listdir(at: t.Any) -> list[str]:
            if str(at) == str(folder):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(at))
            return true(at)

        monkeypatch.setattr(os, "listdir", listdir)
    for how in ("scan", "survey"):
        store, warnings = opened(path)
        paths, errors = looked(store, "leases/", how)
        assert paths == {f"leases/abce/{group}-{key}" for group in ("000", "001") for key in "xy"}
        said = warnings if kind == "file" else errors
        assert len(said) == 1 and str(path / "mount") in said[0] and HOUR in said[0]


def test_something_strange_beside_a_good_file_is_named_and_does_not_hide_it(path: Path) -> None:
    good = file_of(path, HOUR, "000")
    (good.parent / "000.strange.1.0").mkdir()
    for how in ("scan", "survey"):
        paths, errors = looked(opened(path).store, "leases/", how)
        assert len(paths) == 8 and len(errors) == 1 and "000.strange.1.0 is not a regular file" in errors[0]
    store = opened(path).store
    store.write(Write(f"{HOUR}/000-x", {"n": 2}, 1))
    store.delete(f"{HOUR}/000-y")
    assert opened(path).store.read(f"{HOUR}/000-x") == Document(f"{HOUR}/000-x", {"n": 2}, 2)


def test_half_a_rekey(path: Path) -> None:
    """Each file is of one password or the other, and both are of use as far as they go."""
    new = [("default", VaultSecret(b"the new password"))]
    for file in (path / "mount" / HOUR).iterdir():
        file.write_bytes(VaultLib(new).encrypt(VaultLib(SECRETS).decrypt(file.read_bytes())))
    for secrets, hour, other in ((SECRETS, "abce", HOUR), (new, "abcd", "leases/abce")):
        paths, errors = looked(opened(path, secrets).store, "leases/", "scan")
        assert {one.split("/")[1] for one in paths} == {hour} and len(errors) == 2
        assert all(f"/mount/{other}/" in error and "wrong vault password" in error for error in errors)
    assert len(looked(opened(path, [*SECRETS, ("other", new[0][1])]).store, "leases/", "scan")[0]) == 8


# Something is not ours.


def test_strange_entries_are_named_once_and_left_alone(path: Path) -> None:
    mount, hour = path / "mount", path / "mount" / HOUR
    (path / "lost+found").mkdir()
    (path / "README").write_text("")
    strays = [mount / "@eaDir", mount / "leases" / "Icon\r", mount / "leases" / ".snapshot", hour / ".DS_Store"]
    strays += [mount / "leases" / "readme", hour / f"{file_of(path, HOUR, '000').name} (conflicted copy)"]
    strays += [hour / "000.k3v.2.sync-conflict-20261125-130000-ABCDEFG.17"]
    for stray in strays:
        if stray.name[0] in "@.":
            stray.mkdir()
            (stray / "thumb").write_text("")
        else:
            stray.write_text("")
    store, warnings = opened(path)
    for how in ("scan", "survey"):
        paths, errors = looked(store, "leases/", how)
        assert len(paths) == 8 and not errors
    assert len(looked(store, "intents/", "scan")[0]) == 1
    assert len(warnings) == 1 and "left alone" in warnings[0] and len(warnings[0].splitlines()) == 1
    assert "@eaDir" in warnings[0] and "Icon\\r" in warnings[0] and "conflicted copy" in warnings[0]
    for stray in strays:
        assert stray.exists()
    key = store.new_key(HOUR, 1000)
    store.write(Write(f"{HOUR}/{key}", {}))
    store.delete(f"{HOUR}/{key}", *(f"{HOUR}/{group}-{one}" for group in ("000", "001") for one in "xy"))
    assert len(looked(store, "leases/", "scan")[0]) == 4


@needs_root
def test_a_folder_of_somebody_else_with_a_strange_name_is_only_warned_of(path: Path) -> None:
    (path / "mount" / "leases" / "lost+found").mkdir()
    os.chown(path / "mount" / "leases" / "lost+found", 65534, 65534)
    store, warnings = opened(path)
    assert looked(store, "leases/", "survey")[1] == [] and len(warnings) == 1


def test_a_copy_of_a_folder_is_not_taken_for_leases(path: Path) -> None:
    shutil.copytree(path / "mount" / HOUR, path / "mount" / "leases" / "backup")
    paths, errors = looked(opened(path).store, "leases/", "scan")
    assert len(paths) == 8 and len(errors) == 2 and all("is a copy from leases/abcd/" in error for error in errors)


def test_the_store_is_kept_out_of_git(path: Path, tmp_path: Path) -> None:
    assert (path / ".gitignore").read_text() == "*\n"
    for command in (["init", "-q", "."], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    done = subprocess.run(["git", "ls-files"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == ""


# Files that come back.


def copies(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in (path / "mount").rglob("*.*.*.*")}


def put_back(saved: dict[Path, bytes]) -> None:
    for file, content in saved.items():
        file.parent.mkdir(0o700, parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o600)


def test_a_backup_copied_over_a_live_store_takes_no_lease_away(path: Path) -> None:
    """Also one of a group that has been emptied and begun anew since."""
    saved = copies(path)
    store = opened(path).store
    gone = f"{HOUR}/000-y"
    store.write(Write(f"{HOUR}/000-x", {"n": "renewed"}, 1))
    store.delete(gone)
    store.write(Write("definitions", {"n": "newer"}, 1))
    store.delete(*(f"leases/abce/{group}-{key}" for group in ("000", "001") for key in "xy"))
    store.write(Write("leases/abce/000-new", {"n": "live"}))
    put_back(saved)
    for store in (opened(path).store, store):  # noqa: B020
        assert store.read("definitions") == Document("definitions", {"n": "newer"}, 2)
        assert store.read(f"{HOUR}/000-x") == Document(f"{HOUR}/000-x", {"n": "renewed"}, 2)
        assert store.read("leases/abce/000-new") == Document("leases/abce/000-new", {"n": "live"}, 1)
        paths, errors = looked(store, "leases/", "survey")
        assert {"leases/abce/000-new", f"{HOUR}/000-x"} <= paths and not errors
    store.write(Write("leases/abce/000-new", {"n": "renewed"}, 1))
    store.delete("leases/abce/000-x")
    assert len(list((path / "mount" / "leases" / "abce").glob("000.*"))) == 1
    assert looked(opened(path).store, "leases/abce/", "scan")[0] == {
        f"leases/abce/{name}" for name in ("000-new", "000-y", "001-x", "001-y")
    }


def test_two_copies_that_went_on_apart_and_were_united_lose_nothing(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "store"
    shutil.copytree(path, other)
    for at, name in ((path, "one"), (other, "two")):
        store = opened(at).store
        store.write(Write(f"{HOUR}/000-{name}", {"n": name}))
        store.delete(f"{HOUR}/001-x", f"{HOUR}/001-y")
        store.write(Write(f"{HOUR}/001-{name}", {"n": name}))
    shutil.copytree(other, path, dirs_exist_ok=True)
    store = opened(path).store
    paths, errors = looked(store, f"{HOUR}/", "scan")
    assert paths == {f"{HOUR}/{name}" for name in ("000-x", "000-y", "000-one", "000-two", "001-one", "001-two")}
    assert not errors
    store.write(Write(f"{HOUR}/000-one", {"n": 2}, 1))
    assert looked(opened(path).store, f"{HOUR}/", "scan")[0] == paths
    assert len(list((path / "mount" / HOUR).glob("000.*"))) == 1


def test_copies_that_contradict_each_other_are_named(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "store"
    shutil.copytree(path, other)
    for at, name in ((path, "one"), (other, "two")):
        opened(at).store.write(Write(f"{HOUR}/000-x", {"n": name}, 1))
    shutil.copytree(other, path, dirs_exist_ok=True)
    before = copies(path)
    store = opened(path).store
    for act in (lambda: store.read(f"{HOUR}/000-x"), lambda: store.write(Write(f"{HOUR}/000-x", {}, 2))):
        with pytest.raises(UnreadableError) as caught:
            act()
        files = [str(file) for file in before if file.name.startswith("000.") and file.parent.name == "abcd"]
        assert len(files) == 2 and all(file in str(caught.value) for file in files)
    assert copies(path) == before
    assert len(looked(store, "leases/", "scan")[0]) == 6
    next((path / "mount" / HOUR).glob("000.*")).unlink()
    document = store.read(f"{HOUR}/000-x")
    assert document and document.data["n"] in ("one", "two")


def test_no_two_files_of_a_group_ever_have_one_name(path: Path) -> None:
    """Also when a group was emptied and begun anew."""
    names = set()
    store = opened(path).store
    for number in range(40):
        store.write(Write("leases/zzzz/000-a", {"n": number}))
        (file,) = (path / "mount" / "leases" / "zzzz").iterdir()
        assert file.name not in names
        names.add(file.name)
        store.delete("leases/zzzz/000-a")


# A write is done when it is there.


def immovable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all files that there are now immutable, as chattr +i does."""
    true = os.unlink

    def unlink(at: t.Any, *args: t.Any, **kwargs: t.Any) -> None:
        if ".tmp-" not in str(at):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(at))
        true(at, *args, **kwargs)

    monkeypatch.setattr(os, "unlink", unlink)


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=needs_root)])
def test_what_cannot_be_removed_stops_no_write_and_brings_nothing_back(
    path: Path, monkeypatch: pytest.MonkeyPatch, real: bool
) -> None:
    file = file_of(path, HOUR, "000")
    if real:
        if subprocess.run(["chattr", "+i", file], check=False, capture_output=True).returncode:
            pytest.skip("this file system has no immutable files")
    else:
        immovable(monkeypatch)
    try:
        store = opened(path).store
        store.write(Write(f"{HOUR}/000-x", {"n": 2}, 1))
        store.write(Write(f"{HOUR}/000-x", {"n": 3}, 2))
        assert opened(path).store.read(f"{HOUR}/000-x") == Document(f"{HOUR}/000-x", {"n": 3}, 3)
        store.delete(f"{HOUR}/000-x")
        assert opened(path).store.read(f"{HOUR}/000-x") is None and opened(path).store.read(f"{HOUR}/000-y")
        store.delete(f"{HOUR}/000-y")
        for how in ("scan", "survey"):
            paths, errors = looked(opened(path).store, f"{HOUR}/", how)
            assert paths == {f"{HOUR}/001-x", f"{HOUR}/001-y"} and not errors
        survey = opened(path).store.survey(f"{HOUR}/", -1, tidy=False)
        assert not list(survey.due) and survey.later == 2
        assert file.exists()
    finally:
        if real:
            subprocess.run(["chattr", "-i", file], check=True)
        monkeypatch.undo()
    store = opened(path).store
    store.write(Write(f"{HOUR}/000-z", {}))
    assert len(list((path / "mount" / HOUR).glob("000.*"))) == 1 and not file.exists()


def test_a_folder_that_cannot_be_flushed_after_the_rename_stops_no_write(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        true(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    opened(path).store.write(Write(f"{HOUR}/000-x", {"n": 2}, 1))
    assert opened(path).store.read(f"{HOUR}/000-x") == Document(f"{HOUR}/000-x", {"n": 2}, 2)


def test_new_folders_are_flushed_and_old_ones_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true, flushed = os.fsync, []

    def fsync(descriptor: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        true(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store = opened(tmp_path / "some" / "store").store
    store.write(Write(f"{HOUR}/000-x", {}))
    top = str(tmp_path)
    assert {f"{top}{rest}" for rest in ("", "/some", "/some/store", "/some/store/mount")} <= set(flushed)
    assert f"{top}/some/store/mount/leases" in flushed
    flushed.clear()
    store.write(Write(f"{HOUR}/000-y", {}))
    store.write(Write("intents/one", {}))
    store.delete("intents/one")
    store.write(Write("intents/two", {}))
    assert len(flushed) == 2 + 2 + 1 + 2, (
        "a file and its folder for each write, and once the folder that intents/ is in"
    )


# New keys.


@pytest.mark.parametrize("kind", ["zeros", "truncated", "another password", "folder", "other JSON"])
@pytest.mark.parametrize("which", ["000", "001"])
def test_a_new_key_is_where_it_can_be_written(path: Path, kind: str, which: str) -> None:
    """At the second try, since the first shows only then that it is not."""
    damage(file_of(path, HOUR, which), kind)
    for number in range(3):
        store = opened(path).store
        tries = 0
        while True:
            key = f"{HOUR}/{store.new_key(HOUR, 1000)}"
            tries += 1
            try:
                store.check_writable(key)
                break
            except UnreadableError as error:
                assert f"/{which}." in str(error)
        # Who comes later does not meet it.
        assert tries <= (2 if number == 0 else 1)
        store.write(Write(key, {"n": number}))
        assert store.read(key) == Document(key, {"n": number}, 1)


def test_new_keys_still_fill_groups(tmp_path: Path) -> None:
    store = opened(tmp_path / "store").store
    for number in range(GROUP_SIZE + 2):
        key = store.new_key(HOUR, 1000)
        store.write(Write(f"{HOUR}/{key}", {}))
        assert key.startswith("000-" if number < GROUP_SIZE else "001-")


# Passwords.


def test_a_label_that_does_not_match_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = constants.config.get_config_value

    def match(name: str, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return True if name == "DEFAULT_VAULT_ID_MATCH" else true(name, *args, **kwargs)

    with pytest.raises(UnreadableError, match=r"vault id 'default'; given: 'prod'\) cannot be decrypted: wrong vault"):
        opened(path, [("prod", VaultSecret(b"another"))]).store.read("definitions")
    monkeypatch.setattr(constants.config, "get_config_value", match)
    monkeypatch.setattr(constants, "DEFAULT_VAULT_ID_MATCH", True, raising=False)
    with pytest.raises(UnreadableError) as caught:
        os.utime(file_of(path, ".", "definitions"))  # Nobody of the run remembers it then.
        opened(path, [("prod", SECRETS[0][1])]).store.read("definitions")
    assert str(caught.value).startswith("vault_id_match:")
    assert "vault id 'default'" in str(caught.value) and "'prod'" in str(caught.value)


def test_the_documented_rekey(path: Path, tmp_path: Path) -> None:
    """The commands of docs/store.md, also for who has set vault_id_match."""
    (tmp_path / "old-password").write_bytes(b"PasswordOfTheStoreTests-91bd")
    (tmp_path / "new-password").write_bytes(b"the new password")
    text = (Path(__file__).parent.parent.parent / "docs" / "store.md").read_text()
    section = text.partition("## Rekeying")[2].partition("\n## ")[0]
    commands = [line for block in re.findall(r"```shell\n(.*?)```", section, re.S) for line in block.splitlines()]
    assert len(commands) == 2
    for number, (command, label) in enumerate(zip(commands, ("default", "prod"), strict=True)):
        home = tmp_path / f"home{number}"
        (home / ".ansible").mkdir(parents=True)
        secrets = [(label, SECRETS[0][1])]
        shutil.copytree(path, home / ".ansible" / "openai_creds")
        store = opened(home / ".ansible" / "openai_creds", secrets).store
        store.write(Write("definitions", {"n": 2}, 1))
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env={
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(home),
                "ANSIBLE_VAULT_IDENTITY_LIST": f"{label}@old-password",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        header = file_of(home / ".ansible" / "openai_creds", ".", "definitions").read_bytes().splitlines()[0]
        assert header.endswith(b";AES256" if label == "default" else b";prod")
        new = opened(home / ".ansible" / "openai_creds", [(label, VaultSecret(b"the new password"))]).store
        assert new.read("definitions") == Document("definitions", {"n": 2}, 2)
        assert len(looked(new, "leases/", "scan")[0]) == 8


def test_an_identity_that_there_is_not_stops_only_writes(path: Path) -> None:
    store = VaultedFileStore(str(path), "mount", SECRETS, "nonsense")
    store.prepare(writes=1)
    assert store.read("definitions") and len(looked(store, "leases/", "scan")[0]) == 8
    with pytest.raises(StoreError, match=r"vault_encrypt_identity: .*'nonsense'.*'default'"):
        store.write(Write("definitions", {}, 1))


# File systems.

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:50 / /home rw - nfs4 server:/home rw
31 30 0:51 / /home/me/local\\040disk rw shared:1 master:2 - xfs /dev/sdb rw
32 22 0:52 / /mnt rw - ext4 /dev/sdc rw
33 32 0:53 / /mnt rw - fuse.sshfs me@there:/ rw
garbage
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/srv/store", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/.ansible/openai_creds", "nfs4"),
        ("/home/me/local disk/store", "xfs"),
        ("/homeless/store", "ext4"),
        ("/mnt/store", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert file_system.file_system_of(path, MOUNTS) == kind


def test_which_file_systems_are_refused() -> None:
    for kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "afs", "fuse.sshfs", "fuse.s3fs", "fuse.glusterfs", "fuse"):
        assert file_system.is_unfit(kind), kind
    for kind in ("ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs", "fuseblk", "fuse.gocryptfs", "apfs", ""):
        assert not file_system.is_unfit(kind), kind


def test_a_store_on_a_shared_file_system_is_not_written(path: Path, tmp_path: Path, monkeypatch: t.Any) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"{MOUNTS}40 22 0:60 / {path} rw - nfs4 server:/store rw\n")
    monkeypatch.setattr(file_system, "_MOUNTS", str(mounts))
    before = copies(path)
    for act in (lambda: opened(path).store.write(Write("definitions", {}, 1)), lambda: opened(path).store.delete("x")):
        with pytest.raises(StoreError, match=r"store_path: .* type nfs4, .*use a local one"):
            act()
    assert copies(path) == before
    mounts.unlink()  # Where nothing tells of mounts, there is nothing to go by.
    opened(path).store.write(Write("definitions", {}, 1))
