"""How many times sooner ours is as good, from points by hand. What is trained is tested where it lives."""

from accuracy_minutes import times_sooner


def points(ours, theirs):
    return [{"form": "ours", "seconds": s, "dice": d} for s, d in ours] + [
        {"form": "published form", "seconds": s, "dice": d} for s, d in theirs
    ]


def test_the_first_of_ours_that_is_as_good_counts():
    assert times_sooner(points([(60, 0.7), (120, 0.8), (240, 0.9)], [(300, 0.6), (600, 0.78), (1200, 0.75)])) == 5


def test_a_long_training_that_gains_next_to_nothing_does_not_flatter_ours():
    theirs = [(600, 0.6), (1200, 0.800), (4800, 0.801)]
    assert times_sooner(points([(960, 0.802)], theirs)) == 1.25
    assert times_sooner(points([(100, 0.8005), (960, 0.802)], theirs)) == 5  # 12 times the one, 5 times the other


def test_where_ours_never_is_as_good_there_is_no_number():
    assert times_sooner(points([(60, 0.7)], [(300, 0.71)])) is None
