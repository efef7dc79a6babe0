"""Mistakes on the command line of a run that can be told at once, before PyTorch and Ray are loaded."""

import os
from contextlib import suppress
from pathlib import Path

from mimo_core.datasets.globs import has_magic
from mimo_core.datasets.list_files import list_extension
from mimo_core.errors import UsageError
from mimo_core.hardware import may_have_cuda
from mimo_core.images.extensions import IMAGE_EXTENSIONS
from mimo_core.models.metadata import INT8, read_metadata
from mimo_core.models.shipped import shipped
from mimo_core.runs.config import EvaluateConfig, RunConfig
from mimo_core.storage.names import NO_PLACE_FOR_RUNS, creates_exclusively, is_local, locate, redact, scheme_of

_RUN = "run.json"
# Any of these, or a file below, and the client of S3 has something to try.
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "FSSPEC_S3_ANON", "FSSPEC_S3_KEY")


def refuse_mistakes(config: RunConfig) -> None:
    """Refuse what cannot work whatever the rest is; nothing is imported that takes long, and nothing left behind.

    Raises:
        UsageError: it cannot; the message names the remedy.
    """
    begun = _output(config)
    if not begun or config.mode in ("overwrite", "extend"):
        _sources(config)
    _device(config)
    _precision(config, begun)
    _credentials(config)


def _output(config: RunConfig) -> bool:
    """Refuse an OUTPUT where nothing can be written; return whether it may hold a run."""
    if not creates_exclusively(config.output):
        raise UsageError(f"OUTPUT {redact(config.output)}: {NO_PLACE_FOR_RUNS}")
    if not is_local(config.output):
        return True
    path = Path(locate(config.output).path)
    above, missing = _nearest(path)
    if not above.is_dir():
        hint = "; was the glob quoted?" if above == path and _both_images(config) else ""
        where = "is a file" if above == path else f"lies below {above}, which is a file"
        raise UsageError(f"OUTPUT {path} {where}: name a folder{hint}")
    if not os.access(above, os.W_OK | os.X_OK):
        raise _unfit(path, f"{above} cannot be written to")
    if missing is not None and not config.dry_run:
        # What only a try can tell: /proc, names that are too long, quotas.
        try:
            missing.mkdir()
        except FileExistsError:
            # Another driver's, made in this moment, or a link that leads nowhere.
            if not missing.is_dir():
                raise _unfit(path, f"{missing} leads nowhere") from None
        except OSError as error:
            raise _unfit(path, error.strerror or "") from error
        else:
            with suppress(OSError):
                missing.rmdir()
    return (path / _RUN).exists()


def _nearest(path: Path) -> tuple[Path, Path | None]:
    """Return what exists of a path, and the first folder of it that does not."""
    above, missing = path, None
    while True:
        try:
            os.stat(above)  # noqa: PTH116 - unlike Path.exists it tells why not
        except (FileNotFoundError, NotADirectoryError):
            above, missing = above.parent, above
        except OSError as error:
            raise _unfit(path, error.strerror or "") from error
        else:
            return above, missing


def _unfit(path: Path, reason: str) -> UsageError:
    return UsageError(f"OUTPUT cannot be {path}: {reason[:1].lower() + reason[1:]}; choose another one")


def _both_images(config: RunConfig) -> bool:
    return all(Path(place).suffix.lower() in IMAGE_EXTENSIONS for place in (config.source, config.output))


def _sources(config: RunConfig) -> None:
    """Refuse local sources and references that are not there."""
    source = config.source
    if is_local(source) and not has_magic(source):
        path = locate(source).path
        if not os.path.lexists(path):
            what = "no list" if list_extension(source) is not None else "nothing"
            raise UsageError(f"there is {what} at {source}")
    for name, place in (
        ("REFERENCE" if config.evaluates else "--reference", config.reference),
        ("--restored", config.restored_elsewhere),
    ):
        if place is not None and is_local(place) and not Path(locate(place).path).is_dir():
            raise UsageError(f"{name} {place} is no folder")


def _device(config: RunConfig) -> None:
    if config.device.startswith("cuda") and not os.environ.get("RAY_ADDRESS") and not may_have_cuda():
        raise UsageError(
            f"--device {config.device}: this machine has no GPU that CUDA could use; say --device cpu, or name a "
            "cluster with RAY_ADDRESS"
        )


def _precision(config: RunConfig, begun: bool) -> None:
    """Refuse int8 with weights that were not quantised."""
    if config.precision != "int8" or config.engine not in ("auto", "openvino") or (config.weights is None and begun):
        return
    name = config.weights or "mimo-unet-lite"
    paths = {entry.name: entry.path for entry in shipped()}
    path = paths.get(name, Path(name) if is_local(name) else None)
    if path is None or not path.is_file():
        return
    metadata = read_metadata(path)
    if path.suffix in (".pkl", ".pth") or (metadata is not None and INT8 not in metadata):
        raise UsageError(
            f"--precision int8: {name} is not prepared for it; make weights that are prepared with "
            f"`mimo quantize {name} IMAGES FILE`, or leave --precision out"
        )


def _credentials(config: RunConfig) -> None:
    """Refuse buckets of S3 where nothing gives credentials; on a machine of Amazon's the machine itself may."""
    fid_weights = config.fid_weights if isinstance(config, EvaluateConfig) else None
    places = (config.source, config.output, config.reference, config.restored_elsewhere, config.weights, fid_weights)
    buckets = [place for place in places if place is not None and scheme_of(place) in ("s3", "s3a")]
    if not buckets or any(os.environ.get(name) for name in _CREDENTIALS):
        return
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session
    from fsspec.config import conf

    if any(conf.get("s3", {}).get(name) for name in ("anon", "key", "token", "profile", "client_kwargs")):
        return
    try:
        found = Session().get_credentials()
    except BotoCoreError:
        # There is something, and the storage will tell what is wrong with it.
        return
    if found is None:
        raise UsageError(
            f"there are no credentials for {redact(buckets[0])}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE (and AWS_ENDPOINT_URL for servers other than AWS)"
        )
