import gc
import threading

import numpy as np
import pytest

import mpq


def test_answers_are_those_of_the_naive_interpreter(model, pixels, expected):
    with model.session() as session:
        assert session.run(pixels)[0].tobytes() == expected.tobytes()
        assert session.run(**{model.inputs[0].name: pixels})[0].tobytes() == expected.tobytes()


def test_a_batch_gives_the_bytes_of_its_samples(model, pixels, expected):
    others = np.random.default_rng(1).integers(0, 256, (3, *pixels.shape[1:]), np.uint8)
    batch = np.concatenate([others[:1], pixels, others[1:]])
    with model.session(batch=4, threads=2) as many, model.session() as one:
        answers = many.run(batch)[0]
        assert answers[1].tobytes() == expected.tobytes()
        for i, sample in enumerate(batch):
            assert answers[i].tobytes() == one.run(sample[None])[0].tobytes()


def test_facts_of_a_model(model, tiny):
    assert model.name == "everything"
    assert model.inputs[0].dtype == np.uint8 and model.inputs[0].shape == (1, 17, 15, 3)
    assert model.labels == [f"class {i}" for i in range(10)]
    assert model.metadata["author"] == "tests"
    assert model.file_bytes == tiny.stat().st_size
    assert len(model.sha256) == 64
    assert model.image_preprocess.crop_h == 17
    assert not model.takes_text and model.sequence_length == 0


def test_input_and_output_are_the_sessions_memory(model, pixels, expected):
    session = model.session()
    session.input(0)[...] = pixels
    session.run()
    output = session.output(0)
    assert output.tobytes() == expected.tobytes()
    assert output.ctypes.data % 64 == 0 and not output.flags.writeable
    session.input(0)[...] = 0
    session.run()
    assert output.tobytes() != expected.tobytes()  # the same memory, another run


def test_arrays_keep_a_closed_session_alive(model, pixels, expected):
    session = model.session()
    session.run(pixels)
    output = session.output(0)
    session.close()
    model.close()
    gc.collect()
    assert output.tobytes() == expected.tobytes()
    with pytest.raises(mpq.BadHandleError):
        session.run(pixels)


def test_dlpack_in_and_out(model, pixels, expected):
    class Foreign:  # an array of another library: nothing but the protocol
        def __dlpack__(self, **options):
            return pixels.__dlpack__(**options)

        def __dlpack_device__(self):
            return pixels.__dlpack_device__()

    with model.session() as session:
        assert session.run(Foreign())[0].tobytes() == expected.tobytes()
        assert np.from_dlpack(session.output(0)).tobytes() == expected.tobytes()


def test_arrays_that_are_not_contiguous_are_read_right(model, pixels, expected):
    wide = np.zeros((1, 17, 15, 6), np.uint8)
    wide[..., ::2] = pixels
    with model.session() as session:
        assert session.run(wide[..., ::2])[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize("shape", [(1, 17, 15), (2, 17, 15, 3), (1, 15, 17, 3), (0,), ()])
def test_wrong_shapes_are_named(model, shape):
    with model.session() as session:
        with pytest.raises(ValueError, match=r"shape .* expected \(1, 17, 15, 3\)"):
            session.run(np.zeros(shape, np.uint8))


def test_wrong_types_and_names_are_named(model, pixels):
    with model.session() as session:
        with pytest.raises(TypeError, match="float32, expected uint8"):
            session.run(pixels.astype(np.float32))
        with pytest.raises(mpq.NotFoundError, match="nothing"):
            session.run(nothing=pixels)
        with pytest.raises(mpq.InvalidArgumentError):
            session.set_input(7, pixels)


def test_every_truncation_is_refused(tiny):
    whole = tiny.read_bytes()
    lengths = [*range(0, 4200, 37), *range(4200, len(whole), 997), len(whole) - 1]
    for length in lengths:
        with pytest.raises(mpq.Error) as error:
            mpq.Model(whole[:length])
        assert error.value.code in ("corrupt", "checksum", "invalid argument"), length
    assert mpq.Model(whole).name == "everything"


def test_errors_have_status_and_are_pythons_own(tmp_path, tiny):
    with pytest.raises(OSError) as error:
        mpq.Model(tmp_path / "absent.fb")
    assert isinstance(error.value, mpq.IoError) and error.value.status == 10
    broken = bytearray(tiny.read_bytes())
    broken[-70] ^= 1
    (tmp_path / "broken.fb").write_bytes(broken)
    with pytest.raises(mpq.ChecksumError) as error:
        mpq.Model(tmp_path / "broken.fb")
    assert error.value.status == 12
    with pytest.raises(mpq.LimitError):
        mpq.Model(tiny, max_file_bytes=100)
    with mpq.Model(tiny) as model:
        with pytest.raises(mpq.LimitError):
            model.session(memory_limit=1)
        with pytest.raises(mpq.InvalidArgumentError, match="sse9"):
            model.session(isa="sse9")
    with pytest.raises(mpq.BadHandleError):
        model.session()


def test_memory_of_any_alignment_is_a_model(tiny, pixels, expected):
    whole = tiny.read_bytes()
    for shift in (0, 1, 63):
        memory = bytearray(shift) + whole
        with mpq.Model(memoryview(memory)[shift:]) as model, model.session() as session:
            del memory
            gc.collect()
            assert session.run(pixels)[0].tobytes() == expected.tobytes()


def test_tensors_and_steps(model, pixels):
    with model.session(keep_tensors=True, profile=True, threads=1) as session:
        answer = session.run(pixels)[0]
        assert session.tensor(model.outputs[0].name).tobytes() == answer.tobytes()
        assert session.threads == 1 and session.batch == 1
        assert all(s.runs == 1 and s.last_ns > 0 for s in session.steps)
        assert sum(session.memory.values()) > 0
    with model.session() as session, pytest.raises(mpq.UnsupportedError):
        session.tensor(model.outputs[0].name)


def test_texts_in_one_run_give_the_bytes_of_single_ones(text_model):
    texts = ["a b", "ad c f", ("a", "be"), "zz"]
    with text_model.session(batch=4) as many, text_model.session() as one:
        together = many.run_texts(texts)
        starts = 0
        for i, text in enumerate(texts):
            alone = one.run_texts([text])
            assert together[0][i].tobytes() == alone[0][0].tobytes()
            rows = alone[1].shape[0]
            assert together[1][starts:starts + rows].tobytes() == alone[1].tobytes()
            starts += rows
        assert starts == together[1].shape[0]


def test_tokens(text_model):
    tokens = text_model.tokenize("a", "be")
    assert [text_model.token(t.id) for t in tokens] == ["[CLS]", "a", "[SEP]", "b", "##e", "[SEP]"]
    assert [t.type for t in tokens] == [0, 0, 0, 1, 1, 1]
    assert text_model.vocabulary_size == 11 and text_model.takes_text


@pytest.mark.parametrize("ids, types", [([[99]], None), ([[-1]], None), ([[1] * 7], None), ([[]], None),
                                        ([], None), ([[1, 2]], [[0]]), ([[2**40]], None), ([[0.5]], None)])
def test_bad_sequences_are_refused(text_model, ids, types):
    with text_model.session() as session, pytest.raises((ValueError, mpq.Error)):
        session.run_sequences(ids, types)


def run_threads(count, work):
    errors = []

    def guarded(i):
        try:
            work(i)
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors


def test_sixteen_threads_on_sessions_of_one_model(model, pixels, expected):
    first = model.session(threads=1)

    def work(i):
        with first.clone() if i % 2 else model.session(threads=1) as session:
            for _ in range(50):
                assert session.run(pixels)[0].tobytes() == expected.tobytes()

    run_threads(16, work)


def test_sixteen_threads_on_one_session_get_busy_or_the_right_bytes(model, pixels, expected):
    session = model.session(threads=1)
    others = 255 - pixels
    answers = [session.run(others)[0].tobytes(), expected.tobytes()]
    right, busy = [], []

    def work(i):
        for _ in range(100):
            try:
                assert session.run(pixels if i % 2 else others)[0].tobytes() == answers[i % 2]
                right.append(1)
            except mpq.BusyError:
                busy.append(1)

    run_threads(16, work)
    assert right and len(right) + len(busy) == 1600


def test_the_gil_is_free_while_a_session_runs(model, pixels):
    """A thread that counts goes on while another one is inside the library."""
    session = model.session(batch=512, threads=1)
    session.set_input(0, np.broadcast_to(pixels, (512, *pixels.shape[1:])))
    counted, done = [0], threading.Event()

    def count():
        while not done.is_set():
            counted[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    from mpq._library import lib
    before = counted[0]
    lib.mpq_session_run(session._c)
    during = counted[0] - before
    done.set()
    counter.join()
    assert during > 0
