"""Whose clips a record is heard with: another's, of like length, another text, no chance."""

from hypothesis import given
from hypothesis import strategies as st

from qwen_audio_jax.evaluation.other_clips import Heard, other_clips


def heard(number, samples, text, sound=None, *kinds):
    return Heard(number, samples, text, number if sound is None else sound, kinds or ("all",))


@st.composite
def records(draw):
    """Of few lengths, texts, sounds and kinds, so that they often meet."""
    small = st.integers(0, 3)
    made = []
    for number in range(draw(st.integers(0, 24))):
        sound, kind = draw(st.integers(0, 9)), draw(small)
        samples = 100 * (1 + sound % 5)  # equal sounds are equally long
        made.append(heard(number, samples, str(draw(small)), sound, kind, "all"))
    return made


@given(records(), st.randoms())
def test_another_sound_and_another_text_wherever_there_is_one(made, random):
    others = other_clips(made)
    for record in made:
        differing = [one for one in made if one.sound != record.sound]
        if record.number not in others:
            assert not differing
            continue
        other = made[others[record.number]]
        assert other.sound != record.sound
        if any(one.text != record.text for one in differing):
            assert other.text != record.text
        # Nothing of its narrowest kind would have done if it is from another.
        if other.kinds[0] != record.kinds[0] and other.text != record.text:
            assert not any(
                one.kinds[0] == record.kinds[0] and one.text != record.text for one in differing
            )
    shuffled = random.sample(made, len(made))
    assert other_clips(shuffled) == others


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=40))
def test_neighbours_in_length_exchange_their_clips(lengths):
    made = [heard(number, samples, str(number)) for number, samples in enumerate(lengths)]
    others = other_clips(made)
    order = sorted(range(len(made)), key=lambda n: (lengths[n], n))
    exchanged = [n for n in order if others[others[n]] == n]
    assert [others[n] for n in exchanged[::2]] == exchanged[1::2]
    # One is left over where they are odd, the longest; it hears a clip that is heard twice.
    assert set(order) - set(exchanged) == set(order[-1:] if len(made) % 2 else ())
    for n in set(order) - set(exchanged):
        nearest = min(lengths[n] - lengths[m] for m in exchanged)
        assert lengths[n] - lengths[others[n]] == nearest


def test_a_class_that_has_the_majority_takes_the_nearest_of_another():
    made = [heard(n, 10 * n, "b" if n in (3, 9) else "a") for n in range(10)]
    assert other_clips(made) == {2: 3, 3: 2, 8: 9, 9: 8} | dict.fromkeys((0, 1, 4, 5, 6), 3) | {
        7: 9
    }


def test_what_does_not_fit_is_not_heard():
    """Clips that are longer than its own leave a record no room, in this row."""
    made = [heard(n, 10 * n, str(n)) for n in range(1, 6)]
    others = other_clips(made, lambda number, other: other <= number or other < 4)
    assert others == {1: 2, 2: 1, 3: 2, 4: 3, 5: 4}


def test_one_alone_has_none():
    assert other_clips([heard(0, 5, "a")]) == {}
    assert other_clips([heard(0, 5, "a", 7), heard(1, 5, "b", 7)]) == {}
    assert other_clips([heard(0, 5, "a"), heard(1, 9, "a")]) == {0: 1, 1: 0}


def test_thousands_of_one_class_take_no_squares():
    made = [heard(n, n, "a") for n in range(30_000)] + [heard(30_000, 15_000, "b")]
    others = other_clips(made)
    assert len(others) == 30_001
    assert all(others[n] == 30_000 for n in range(14_000) if n != others[30_000])
