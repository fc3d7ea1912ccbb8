"""Places of searches that compute at the same time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.search.places import Places


def test_as_many_threads_compute_as_there_are_places() -> None:
    places, inside, most, lock = Places(2, wait_s=60), 0, 0, threading.Lock()

    def search() -> None:
        nonlocal inside, most
        with places.taken():
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(search) for _ in range(16)]:
            done.result()
    assert most == 2


def test_a_search_that_takes_long_does_not_stop_the_others() -> None:
    places, ended = Places(1, wait_s=0.01), threading.Event()

    def slow() -> None:
        with places.taken():
            ended.wait(60)

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        while not places._free.empty():
            time.sleep(0.001)
        with places.taken():
            assert not ended.is_set()
    finally:
        ended.set()
        thread.join()
    assert places._free.qsize() == 1  # the second search had none to give back


def test_a_place_is_given_back_after_an_error() -> None:
    places = Places(1, wait_s=60)
    for _ in range(2):
        with pytest.raises(ValueError, match="this one"), places.taken():
            raise ValueError("this one")
    with places.taken():
        pass
