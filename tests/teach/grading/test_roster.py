import unicodedata

import pytest
from minicomp.teach.grading.roster import Student, of_path, read_roster, same_person

CLASS = [Student(n) for n in ("Bea Müller", "Ann Lee", "Eve O'Neil", "Li Wei", "s123", "s12")]
BY_LOGIN = [Student("Bea Müller", "", ("bmueller", "4711")), Student("Ann Lee", "", ("alee",))]


@pytest.mark.parametrize(
    "path",
    [
        "Bea Müller_123_assignsubmission_file_/04_magnitude.ipynb",  # Moodle
        "Bea Müller_123_assignsubmission_file_04_magnitude.ipynb",  # older Moodle
        "müllerbea_123_4567_04_magnitude.ipynb",  # Canvas: last name first, joined
        "müllerbea_LATE_123_4567_04_magnitude-1.ipynb",
        "mullerbea_123_4567_04_magnitude.ipynb",
        "Bea Müller - 04_magnitude.ipynb",  # Google Classroom
        "Bea Müller - Copy of 04_magnitude (1).ipynb",
        "123-456 - Bea Müller - Nov 20, 2026 1033 AM/04_magnitude.ipynb",  # Brightspace
        "Müller, Bea(bmueller)/Submission attachment(s)/04.ipynb",  # Sakai
        "04-BEA_MÜLLER.IPYNB",
        "Bea Mueller.ipynb",
        "Bea Muller/Ann Lee's answer.ipynb",
        "all.zip/Bea Müller/04.ipynb",
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_stand_in_paths_as_platforms_write_them(path, form):
    student, _ = of_path(unicodedata.normalize(form, path), CLASS)
    assert student is not None and student.name == "Bea Müller"


def test_a_login_or_a_number_is_a_name_too():
    for path in (
        "Lesson 4_bmueller_attempt_2026-11-20-10-33-12_04_magnitude.ipynb",  # Blackboard
        "4711/04.ipynb",
    ):
        assert of_path(path, BY_LOGIN)[0].name == "Bea Müller"
    assert of_path("Lesson 4_alee_attempt_2026_04.ipynb", BY_LOGIN)[0].name == "Ann Lee"


@pytest.mark.parametrize(
    "path, name",
    [
        ("s123.ipynb", "s123"),
        ("s12_04.ipynb", "s12"),
        ("oneileve_1_2_04.ipynb", "Eve O'Neil"),
        ("Wei Li/04.ipynb", "Li Wei"),
        ("leann/04.ipynb", None),
        ("Anna Leeson.ipynb", None),
        ("04_magnitude.ipynb", None),
    ],
)
def test_only_whole_names_count(path, name):
    student, _ = of_path(path, CLASS)
    assert (student and student.name) == name


def test_two_names_of_one_length_leave_it_open():
    two = [Student("Ann"), Student("Bob"), Student("Ann Lee")]
    assert of_path("ann_and_bob.ipynb", two) == (None, two[:2])
    assert of_path("ann_lee.ipynb", two)[0].name == "Ann Lee"
    assert of_path("bob/ann.ipynb", two)[0].name == "Bob"


def test_a_roster_in_nfd_with_logins_is_read(tmp_path):
    path = tmp_path / "r.csv"
    nfd = unicodedata.normalize("NFD", "Student;Email;Group\nBea Müller;bmueller@x.org;a\n")
    path.write_text(nfd, encoding="utf-16")
    assert read_roster(path) == [Student("Bea Müller", "", ("bmueller@x.org", "bmueller"))]


def test_names_of_one_person():
    assert same_person("bea", "Bea Müller") and same_person("Mueller, Bea", "Bea Müller")
    assert not same_person("Bob", "Bea Müller")
