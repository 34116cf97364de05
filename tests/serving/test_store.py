import pytest

from m3jax.serving import store as store_lib


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def make(max_bytes=10, max_items=3, seconds=5.0):
    clock = Clock()
    return store_lib.Store(max_bytes, max_items, seconds, clock), clock


def test_messages_stay_until_they_expire():
    store, clock = make()
    handle = store.put(b"one")
    clock.now = 4.9
    assert store.get(handle) == store.get(handle) == b"one"
    clock.now = 5.0
    with pytest.raises(KeyError):
        store.get(handle)
    assert (len(store), store.num_bytes) == (0, 0)


@pytest.mark.parametrize("size", [1, 4])
def test_the_oldest_make_room(size):
    store, _ = make()
    handles = [store.put(bytes([i] * size)) for i in range(4)]
    kept = 3 if size == 1 else 2
    assert len(store) == kept
    for i, handle in enumerate(handles):
        if i >= 4 - kept:
            assert store.get(handle) == bytes([i] * size)
        else:
            with pytest.raises(KeyError):
                store.get(handle)


def test_bounds_hold_whatever_comes():
    store, clock = make(max_bytes=100, max_items=7, seconds=3.0)
    alive = []
    for step in range(500):
        clock.now += (step * 7 % 11) / 10
        size = step * 31 % 60
        alive.append((clock.now + 3.0, size, store.put(bytes(size))))
        alive = [item for item in alive if item[0] > clock.now]
        while len(alive) > 7 or sum(item[1] for item in alive) > 100:
            alive.pop(0)
        assert len(store) == len(alive) <= 7
        assert store.num_bytes == sum(item[1] for item in alive) <= 100
        for _, size, handle in alive:
            assert len(store.get(handle)) == size


def test_a_message_larger_than_the_store_drops_nothing():
    store, _ = make()
    handle = store.put(b"kept")
    with pytest.raises(ValueError, match="11 bytes do not fit the store of 10"):
        store.put(bytes(11))
    assert store.get(handle) == b"kept"


def test_handles_do_not_repeat():
    store, _ = make(max_bytes=1000, max_items=1000)
    handles = {store.put(b"") for _ in range(500)}
    assert len(handles) == 500
    assert all(len(handle) == 32 for handle in handles)


@pytest.mark.parametrize("bounds", [(0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.0)])
def test_a_store_of_nothing_is_refused(bounds):
    with pytest.raises(ValueError, match="must be positive"):
        store_lib.Store(*bounds)
