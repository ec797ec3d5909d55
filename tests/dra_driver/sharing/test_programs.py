"""Programs are found and run below any driver root: this system, NVIDIA's files alone, a whole other system."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from dra_driver.errors import PermanentError, RetryableError
from dra_driver.roots import Roots
from dra_driver.sharing.mps import MpsDaemons, places
from dra_driver.sharing.processes import Identity, is_alive, kill, world
from dra_driver.sharing.programs import ProgramError, Programs

SMI = "nvidia-smi"
MPS_CONTROL = """#!/bin/sh
up="$CUDA_MPS_PIPE_DIRECTORY/up"
if [ "$1" = -f ]; then
    : > /dev/shm/mine
    echo "$CUDA_VISIBLE_DEVICES" > "$CUDA_MPS_LOG_DIRECTORY/control.log"
    : > "$up"
    while [ -e "$up" ]; do sleep 0.02; done
    exit 0
fi
[ -e "$up" ] || { echo "Cannot find MPS control daemon process"; exit 1; }
read -r command
[ "$command" != quit ] || rm "$up"
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and a root of its own need root, as the driver does")


def program(root, name, text, folder="usr/bin"):
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def whole_system(root):
    """A system of its own: a shell, two programs, and their libraries."""
    for name in ("sh", "sleep", "rm"):
        source = shutil.which(name)
        target = root / "bin" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        libraries = re.findall(
            r"(/\S+)", subprocess.run(["ldd", source], capture_output=True, text=True, check=True).stdout
        )
        for library in libraries:
            copy = root / library[1:]
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, copy)
    for folder in ("tmp", "dev/shm", "usr/bin"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    return root


def test_an_absolute_link_stays_below_the_driver_root(tmp_path):
    """Debian's nvidia-smi is a link to /etc/alternatives."""
    program(tmp_path, "real", "#!/bin/sh\necho found\n", "opt/nvidia")
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (tmp_path / "etc/alternatives/smi").symlink_to("/opt/nvidia/real")
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin" / SMI).symlink_to("/etc/alternatives/smi")
    assert Programs(tmp_path).run(SMI, (), timeout_s=10) == "found\n"


@pytest.mark.parametrize("kind", ["missing", "folder", "not executable", "dangling"])
def test_what_cannot_be_run_is_not_found(tmp_path, kind):
    path = tmp_path / "usr/bin" / SMI
    path.parent.mkdir(parents=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "not executable":
        path.write_text("")
    elif kind == "dangling":
        path.symlink_to("/nowhere")
    with pytest.raises(PermanentError, match=r"nvidia-smi is in none of usr/bin, .*below the driver root"):
        Programs(tmp_path).find(SMI)


def test_a_failure_has_the_programs_words_short_and_on_one_line(tmp_path):
    program(tmp_path, SMI, "#!/bin/sh\necho 'Insufficient Permissions' >&2\nprintf '\\033[31m%02000d\\n' 7\nexit 4\n")
    with pytest.raises(ProgramError) as fault:
        Programs(tmp_path).run(SMI, (), timeout_s=10)
    text = str(fault.value)
    assert text.startswith("nvidia-smi: ended with code 4: Insufficient Permissions ")
    assert text.isprintable()
    assert len(text) < 250


def test_a_program_that_is_no_program_is_told(tmp_path):
    program(tmp_path, SMI, "\x7fELF nonsense")
    with pytest.raises(ProgramError, match="cannot be started"):
        Programs(tmp_path).run(SMI, (), timeout_s=10)


def test_files_alone_lend_their_libraries(tmp_path):
    program(tmp_path, SMI, "#!/bin/sh\necho $LD_LIBRARY_PATH\n")
    (tmp_path / "usr/lib64").mkdir(parents=True)
    assert str(tmp_path / "usr/lib64") in Programs(tmp_path).run(SMI, (), timeout_s=10).strip().split(":")


@needs_root
def test_in_a_system_of_its_own_a_program_has_that_root(tmp_path):
    program(whole_system(tmp_path), SMI, '#!/bin/sh\necho "$@" $PATH $LD_LIBRARY_PATH; [ ! -e /work ] && echo /*\n')
    said, inside = Programs(tmp_path).run(SMI, ("-i", "GPU-1"), timeout_s=10).splitlines()
    assert said.startswith("-i GPU-1 /usr/bin:")
    assert str(tmp_path) not in said
    assert {"/bin", "/tmp", "/dev", "/usr"} <= set(inside.split())


@needs_root
def test_a_daemon_in_a_system_of_its_own_has_our_folders(tmp_path):
    root = whole_system(tmp_path / "root")
    program(root, "nvidia-cuda-mps-control", MPS_CONTROL)
    with tempfile.TemporaryDirectory(prefix="mps") as short:
        roots = Roots(driver_root=root, dev_root=tmp_path / "host", state=Path(short))
        daemons, where = MpsDaemons(roots), places(roots, "GPU-1")
        daemons.ensure("GPU-1")
        assert daemons.is_ready("GPU-1")
        assert (where.pipe / "up").exists()
        assert (where.shm / "mine").exists()
        assert (where.log / "control.log").read_text() == "GPU-1\n"
        assert not list((root / "tmp").iterdir())
        daemons.stop("GPU-1")
        assert not daemons.is_ready("GPU-1")
        assert not where.home.exists()


def test_a_process_of_another_boot_or_namespace_is_gone_and_never_killed():
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        ticks = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
        assert is_alive(Identity(process.pid, ticks, world()))
        for other in (Identity(process.pid, ticks, "other boot"), Identity(process.pid, ticks + 1, world())):
            assert not is_alive(other)
            kill(other, 9)
        assert process.poll() is None
        kill(Identity(process.pid, ticks, world()), 9)
        assert process.wait() == -9
    assert not is_alive(Identity(process.pid, ticks, world()))


def test_a_daemon_that_never_answers_is_given_up_and_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("dra_driver.sharing.mps.START_S", 0.6)
    program(
        tmp_path,
        "nvidia-cuda-mps-control",
        '#!/bin/sh\n[ "$1" = -f ] || exit 1\necho waiting for a GPU\nexec sleep 600\n',
    )
    with tempfile.TemporaryDirectory(prefix="mps") as short:
        roots = Roots(driver_root=tmp_path, dev_root=tmp_path, state=Path(short))
        monkeypatch.setenv("PATH", "/bin:/usr/bin")
        program(tmp_path, "sleep", "#!/bin/sh\nwhile :; do /bin/sleep 1; done\n")
        with pytest.raises(RetryableError, match=r"does not answer after 0\.6 s: waiting for a GPU"):
            MpsDaemons(roots).ensure("GPU-1")
        assert not places(roots, "GPU-1").identity.exists()
