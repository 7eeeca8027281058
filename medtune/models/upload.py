"""A finished folder to the hub: --push_to_hub. The folder here is complete whatever comes of it."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from medtune.arguments import MergeArguments
from medtune.common.errors import ConfigError, MedtuneError
from medtune.common.log import logger


def check_repository(name: str) -> None:
    """Raise ConfigError for a name that the hub would not take; nothing is sent."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(
            f"--push_to_hub {name}: expected NAME or OWNER/NAME of a repository: {error}"
        ) from error


def upload(arguments: MergeArguments, folder: Path) -> None:
    """Upload every file of a complete folder in one commit; a new repository is private.

    The token is --hf_hub_token, else that of HF_TOKEN or `hf auth login`; it stands in no message.
    Raises MedtuneError with the command that tries again.
    """
    name = str(arguments.push_to_hub)
    api = HfApi(token=arguments.hf_hub_token)
    try:
        repository = api.create_repo(name, private=arguments.hub_private_repo, exist_ok=True)
        api.upload_folder(
            repo_id=repository.repo_id,
            folder_path=str(folder),
            commit_message="Upload a merged model",
        )
    except Exception as error:  # those of whichever HTTP library the hub's client has
        reason = hide(str(error), arguments.hf_hub_token)
        raise MedtuneError(
            f"--push_to_hub {name}: expected the hub to take it, found {type(error).__name__}: "
            f"{reason}\n{folder} is complete and stays. Log in by `hf auth login` with a token "
            "that may write, then run the same command again, which uploads only, or: "
            f"hf upload {name} {folder}"
        ) from error
    logger.info("uploaded %s to %s", folder, repository)


def hide(text: str, token: str | None) -> str:
    """Return the text without the token."""
    return text.replace(token, "***") if token else text
