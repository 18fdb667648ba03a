"""What is known of Office-31 and Office-Home before any of their files is there."""

from dataclasses import dataclass

SIZE = 224
"""Height and width of prepared images (px), unless asked otherwise."""

LEAST_SIZE, LARGEST_SIZE = 64, 1024
"""The network halves an image five times and needs more than one place in the end."""


@dataclass(frozen=True)
class Office:
    """Images of the same classes in several domains.

    Attributes:
        name: in the index of a prepared dataset.
        title: for people.
        suite: the suite of it.
        folders: of the domains, as published.
        classes: names of their folders as published, in the order of the labels.
    """

    name: str
    title: str
    suite: str
    folders: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains, which are those of the tasks."""
        return tuple(plain(folder) for folder in self.folders)


def plain(name: str) -> str:
    """The name of a folder as domains and classes are told apart by it: copies of the datasets
    have `Real World` and `Real_World`."""
    return name.lower().replace(" ", "_")


OFFICE_31 = Office(
    "office-31",
    "Office-31",
    "office",
    ("amazon", "dslr", "webcam"),
    (
        "back_pack", "bike", "bike_helmet", "bookcase", "bottle", "calculator", "desk_chair",
        "desk_lamp", "desktop_computer", "file_cabinet", "headphones", "keyboard",
        "laptop_computer", "letter_tray", "mobile_phone", "monitor", "mouse", "mug",
        "paper_notebook", "pen", "phone", "printer", "projector", "punchers", "ring_binder",
        "ruler", "scissors", "speaker", "stapler", "tape_dispenser", "trash_can",
    ),
)  # fmt: skip

OFFICE_HOME = Office(
    "office-home",
    "Office-Home",
    "office-home",
    ("Art", "Clipart", "Product", "Real World"),
    (
        "Alarm_Clock", "Backpack", "Batteries", "Bed", "Bike", "Bottle", "Bucket", "Calculator",
        "Calendar", "Candles", "Chair", "Clipboards", "Computer", "Couch", "Curtains", "Desk_Lamp",
        "Drill", "Eraser", "Exit_Sign", "Fan", "File_Cabinet", "Flipflops", "Flowers", "Folder",
        "Fork", "Glasses", "Hammer", "Helmet", "Kettle", "Keyboard", "Knives", "Lamp_Shade",
        "Laptop", "Marker", "Monitor", "Mop", "Mouse", "Mug", "Notebook", "Oven", "Pan",
        "Paper_Clip", "Pen", "Pencil", "Postit_Notes", "Printer", "Push_Pin", "Radio",
        "Refrigerator", "Ruler", "Scissors", "Screwdriver", "Shelf", "Sink", "Sneakers", "Soda",
        "Speaker", "Spoon", "TV", "Table", "Telephone", "ToothBrush", "Toys", "Trash_Can",
        "Webcam",
    ),
)  # fmt: skip

OFFICES = (OFFICE_31, OFFICE_HOME)
