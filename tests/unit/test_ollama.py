"""Ollama's settings for each kind of card."""

from __future__ import annotations

import pytest

from stack.config.model import Accelerator, Engine, KvCache
from stack.inference import ollama
from stack.parts import engine_image

CPU = Engine()
ONE_NVIDIA = Engine(accelerator=Accelerator.NVIDIA, gpus=("1",))
ALL_NVIDIA = Engine(accelerator=Accelerator.NVIDIA)
AMD = Engine(accelerator=Accelerator.AMD, gpus=("0", "2"), device_groups=(44, 109))


def test_only_amd_has_an_image_of_its_own() -> None:
    assert [engine_image(kind) for kind in Accelerator] == ["ollama", "ollama", "ollama-rocm"]


def test_a_cpu_engine_gets_no_card() -> None:
    gpus = ollama.gpus(CPU)
    assert (gpus.request, gpus.devices, gpus.groups) == (None, (), ())


def test_nvidia_cards_by_index_or_all() -> None:
    assert ollama.gpus(ONE_NVIDIA).request == "device=1"
    assert ollama.gpus(ONE_NVIDIA.model_copy(update={"gpus": ("0", "1")})).request == "device=0,1"
    assert ollama.gpus(ALL_NVIDIA).request == "all"


def test_amd_cards_are_devices_and_chosen_by_environment() -> None:
    gpus = ollama.gpus(AMD)
    assert (gpus.request, gpus.devices) == (None, ("/dev/dri", "/dev/kfd"))
    assert gpus.groups == ["44", "109"]
    assert ollama.environment(AMD)["ROCR_VISIBLE_DEVICES"] == "0,2"
    assert "ROCR_VISIBLE_DEVICES" not in ollama.environment(ONE_NVIDIA)


def test_instances_share_the_cards_out() -> None:
    four = Engine(accelerator=Accelerator.NVIDIA, gpus=("0", "1", "2", "5"), instances=2)
    assert [ollama.gpus(four, number).request for number in range(2)] == ["device=0,1", "device=2,5"]
    two = Engine(accelerator=Accelerator.AMD, gpus=("0", "2"), device_groups=(44,), instances=2)
    assert [ollama.environment(two, number)["ROCR_VISIBLE_DEVICES"] for number in range(2)] == ["0", "2"]


def test_an_engine_holds_all_that_the_gateway_may_have_under_way() -> None:
    engine = Engine(instances=3, parallel=2, queue=5)
    assert int(ollama.environment(engine)["OLLAMA_MAX_QUEUE"]) == engine.slots == 21


@pytest.mark.parametrize(
    ("change", "name", "wanted"),
    [
        ({"parallel": 7}, "OLLAMA_NUM_PARALLEL", "7"),
        ({"max_loaded_models": 3}, "OLLAMA_MAX_LOADED_MODELS", "3"),
        ({"queue": 9, "parallel": 3, "instances": 2}, "OLLAMA_MAX_QUEUE", "24"),
        ({"keep_alive": "2h"}, "OLLAMA_KEEP_ALIVE", "7200s"),
        ({"keep_alive": "0s"}, "OLLAMA_KEEP_ALIVE", "0s"),
        ({"keep_alive": "365d"}, "OLLAMA_KEEP_ALIVE", "31536000s"),
        ({"load_timeout": "1m"}, "OLLAMA_LOAD_TIMEOUT", "60s"),
        ({"context_length": 8192}, "OLLAMA_CONTEXT_LENGTH", "8192"),
        ({"kv_cache": KvCache.Q4_0}, "OLLAMA_KV_CACHE_TYPE", "q4_0"),
        ({"flash_attention": True}, "OLLAMA_FLASH_ATTENTION", "1"),
    ],
)
def test_each_setting_reaches_its_variable(change: dict[str, object], name: str, wanted: str) -> None:
    assert ollama.environment(CPU.model_copy(update=change))[name] == wanted


def test_no_cloud_and_no_pruning_of_interrupted_pulls() -> None:
    settings = ollama.environment(CPU)
    assert (settings["OLLAMA_NO_CLOUD"], settings["OLLAMA_NOPRUNE"]) == ("1", "1")


def test_all_that_is_written_lies_in_the_volume_or_in_memory() -> None:
    settings = ollama.environment(CPU)
    assert (settings["OLLAMA_MODELS"], settings["HOME"]) == (ollama.MODELS_FOLDER, "/tmp")
