"""A die behind a child process, for a vaststreamx that this Python cannot import.

The child runs `die.py` by its path and needs Python 3.8 and NumPy. Pixels pass through anonymous shared memory: so many
slots of an RGB image and a float16 result, used in turn. One byte on the command pipe says that the next slot holds an
image; each line (JSON) on the message pipe says that the die is open (`name`), that the next result lies in its slot
(`done`, `sample`), or that it is dead (`error`). The child ends when the command pipe closes, or with its parent.
"""

from __future__ import annotations

import importlib.util
import json
import mmap
import os
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mimo_core.engines.vacc.die import IN_BYTES, OUT_BYTES, DieError
from mimo_core.errors import ErrorKind, SystemFailure

_PROGRAM = str(Path(__file__).with_name("die.py"))
_LISTING_SECONDS = 120.0
_END_SECONDS = 10.0


def count_dies(python: str | None) -> int:
    """Return how many dies this machine has, asking vaststreamx in a process of its own where it can be had.

    Args:
        python: interpreter that has vaststreamx; None for this one. Where neither can import it, the devices
            `/dev/vacc*` are counted.

    Raises:
        SystemFailure: the interpreter does not run, or vaststreamx fails.
    """
    if python is None and importlib.util.find_spec("vaststreamx") is None:
        return len(list(Path("/dev").glob("vacc*")))
    command = [python or sys.executable, _PROGRAM, "--list"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_LISTING_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemFailure(ErrorKind.DEVICE, f"--vacc-python {python}: {error}") from error
    if done.returncode:
        raise SystemFailure(ErrorKind.DEVICE, f"{command[0]} cannot list the VACC dies: {_last_line(done.stderr)}")
    # vaststreamx may print lines of its own before.
    return len(json.loads(done.stdout.splitlines()[-1]))


class ChildDie:
    """The interface of `die.Die`, with a child process in between. `slots`: most images between submit and collect."""

    def __init__(
        self,
        python: str,
        index: int,
        prefix: str,
        vdsp: str,
        size: tuple[int, int],
        interleaved_bgr: bool,
        slots: int,
    ) -> None:
        height, width = size
        pixels = height * width
        length = slots * pixels * (IN_BYTES + OUT_BYTES)
        memory = os.memfd_create("mimo-vacc")
        os.ftruncate(memory, length)
        self._shared = mmap.mmap(memory, length)
        images = np.frombuffer(self._shared, np.uint8, slots * pixels * IN_BYTES)
        results = np.frombuffer(self._shared, np.float16, slots * pixels * 3, slots * pixels * IN_BYTES)
        self._images = images.reshape(slots, height, width, 3)
        self._results = results.reshape(slots, 3, height, width)
        self._slots = slots
        self._submitted = self._collected = 0
        self._sample: dict[str, float] | None = None
        self._reading = threading.Lock()
        self._error: str | None = None
        commands, self._commands = os.pipe()
        messages, told = os.pipe()
        configuration = {
            "index": index,
            "prefix": prefix,
            "vdsp": vdsp,
            "size": size,
            "interleaved_bgr": interleaved_bgr,
            "slots": slots,
            "memory": memory,
            "commands": commands,
            "messages": told,
        }
        try:
            self._process = subprocess.Popen(
                [python, _PROGRAM, json.dumps(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(memory, commands, told),
            )
        except OSError as error:
            os.close(messages)
            os.close(self._commands)
            raise DieError(f"--vacc-python {python}: {error.strerror}") from error
        finally:
            for descriptor in (memory, commands, told):
                os.close(descriptor)
        self._messages = os.fdopen(messages, encoding="utf-8")
        self._said: deque[str] = deque(maxlen=20)
        assert self._process.stdout is not None
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()
        try:
            self.name = str(self._hear()["name"])
        except DieError:
            self.close()
            raise

    def submit(self, pixels: npt.NDArray[np.uint8]) -> None:
        """See `Die.submit`."""
        self._images[self._submitted % self._slots] = pixels
        self._submitted += 1
        try:
            os.write(self._commands, b"+")
        except OSError as error:
            # Why it has ended may still be unread, as may results, which are of no more use.
            while True:
                try:
                    self._hear()
                except DieError as told:
                    raise told from error

    def collect(self) -> npt.NDArray[np.float16]:
        """See `Die.collect`; a view that the next submissions may overwrite."""
        self._sample = self._hear()["sample"]
        result: npt.NDArray[np.float16] = self._results[self._collected % self._slots]
        self._collected += 1
        return result

    def sample(self) -> dict[str, float] | None:
        """See `Die.sample`: what came with the last result."""
        return self._sample

    def close(self) -> None:
        """End the child."""
        os.close(self._commands)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._messages.close()

    def _hear(self) -> dict[str, Any]:
        with self._reading:
            if self._error is not None:
                raise DieError(self._error)
            line = self._messages.readline()
            message: dict[str, Any] = json.loads(line) if line else {"error": self._how_it_ended()}
            if "error" in message:
                self._error = str(message["error"])
                raise DieError(self._error)
            return message

    def _how_it_ended(self) -> str:
        self._process.wait()
        return f"the child process has ended with {self._process.returncode}: {self._last_words()}"

    def _listen(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._said.append(line.decode(errors="replace").strip())

    def _last_words(self) -> str:
        # What it printed comes over another pipe than its messages.
        self._listener.join(_END_SECONDS)
        return next(filter(None, reversed(self._said)), "it said nothing")


def _last_line(text: str) -> str:
    return next(filter(None, reversed(text.strip().splitlines())), "it said nothing")
