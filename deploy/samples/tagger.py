"""Writes tagger.jsonl and tagger.held-out.jsonl: sentences whose names of people, places, firms and days are tagged.

A frame is filled twice or more with words of the banks. Frames and names of the held-out file are in no training line,
so its accuracy is about sentences and names that the tagger has never seen. Punctuation stands as words of its own.
"""

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BLANKS = {"P": "PER", "L": "LOC", "C": "ORG", "D": "DATE", "M": "DATE"}  # {D} on a day, {M} in a month or year


@dataclass(frozen=True)
class Bank:
    """Frames, and the words for each of their blanks."""

    frames: Sequence[str]
    words: dict[str, list[str]]


def words(text: str) -> list[str]:
    """Names, separated by commas."""
    return text.split(", ")


LEARNED = Bank(
    frames="""
{P} moved from {L} to {L} in {M} .
On {D} {P} will open a new office in {L} .
{C} has hired {P} to lead its team in {L} .
The train from {L} to {L} was late again on {D} .
{P} and {P} met at a bakery in {L} .
Last year {C} sold its factory near {L} to {C} .
I asked {P} whether the parcel from {C} had arrived .
Nobody at {C} wanted to comment before {D} .
The exhibition in {L} opens on {D} and is free for students .
My neighbour {P} used to work for {C} .
{P} , who grew up in {L} , writes crime novels .
Flights to {L} are cheaper in {M} .
Can you call {P} before {D} , please ?
We spent {D} in {L} with {P} and the children .
{C} and {C} will merge by {D} .
The mayor of {L} thanked {P} for the gift .
Since {M} the bridge in {L} has been closed .
{P} paid {C} forty euros for the repair .
A storm hit {L} on {D} and cut the power .
The lawyer of {P} said that {C} had lied .
According to {C} , prices in {L} rose again .
{P} won the race in {L} ahead of {P} .
Please send the invoice to {C} , not to {P} .
Our office in {L} moves on {D} .
She studied in {L} until {D} and then joined {C} .
The concert of {P} in {L} was sold out .
{C} will pay its dividend on {D} .
It rained all week in {L} .
Doctors in {L} use a device made by {C} .
The deal is good for {L} , said {P} .
{P} was born in {L} on {D} .
The meeting with {C} is on {D} at noon .
Two engineers from {C} drove to {L} .
When does {P} come back from {L} ?
The strike at {C} ended on {D} .
{L} is warmer than {L} in {M} .
I met {P} at the station .
{P} bought shares of {C} in {M} .
The map shows the old walls of {L} .
In {M} , {C} stopped making bicycles .
Between {L} and {L} there is no mobile signal .
Everybody knows that {P} cannot sing .
The letter that {P} wrote to {P} in {M} is lost .
{C} rents two floors of the tower in {L} .
A spokesman for {C} denied the report on {D} .
The hotel in {L} belongs to {P} .
Tickets for {D} are sold out , but {P} has two left .
If {C} delivers by {D} , we can finish on time .
The river divides {L} into two halves .
My cousin {P} sends greetings from {L} .
The judge fined {C} on {D} .
{P} teaches music at a school in {L} .
He left {C} after a quarrel with {P} .
The new stadium in {L} is named after {P} .
Thousands marched through {L} on {D} .
The soup was too salty and the bread was hard .
They painted the kitchen yellow and sold the table .
After lunch the children slept for an hour .
The contract runs for three years and can be renewed .
My phone is broken and the shop is shut .
The apple cake that {P} made was gone within minutes .
{C} raised its prices although its costs had fallen .
A ferry sails from {L} to the small island twice a day .
{P} cooked fish with lemon , garlic and a little butter .
The team of {P} lost by two goals on {D} .
The beach near {L} was full of tourists in {M} .
{C} cheated its staff , and its owner fled to {L} .
Scientists in {L} found a new kind of beetle .
The waiter brought the soup , and {P} asked for bread .
The village lies in a valley between two mountains .
Two days later the snow was gone and the road was open again .
The company cut its costs and its workers paid the price .
A good pie needs cold butter and a hot oven .
The chicken was tender and the chocolate tart was divine .
Our hotel stood on a hill above the bay .
The island has one shop and a tiny harbour .
She put the lemons , the onions and the cheese on the table .
The band played for three hours and we wanted more .
He missed the bus and walked home through the rain .
The phone rang twice while I was in the garden .
A planet needs water if plants are to grow on it .
The captain scored twice and the fans went wild .
Firms must tell their shareholders how they spend their money .
The doctor told me to rest for a week .
A flock of geese flew over the lake at dawn .
The film was far too long , but the music was brilliant .
His jacket was wet and his shoes were covered with mud .
Prices rose last year and the bank did nothing about it .
The star is so far away that its light takes years to reach us .
My brother repairs bicycles and my sister sells them .
The screen cracked when the tablet fell off the desk .
I love the smell of fresh bread in the morning .
Waste of time , I want my money back .
What a wonderful evening !
Two tickets to the city , please .
The children ate all the strawberries and half of the plums .
Nobody knows why the engine stopped .
The library opens at nine and closes at six .
Salt , pepper and a spoon of vinegar are all you need .
The match was cancelled because the pitch was frozen .
It took us an hour to find the hotel .
The stadium holds forty thousand people .
A comet crossed the sky and everyone looked up .
The customers were angry and the manager was rude .
""".strip().splitlines(),
    words={
        "P": words(
            "Maria, Peter Novak, Aisha Khan, Tom, Elena Rossi, David Miller, Yuki, Carlos Mendes, Anna, Samuel Okafor, "
            "Ingrid Larsen, Priya Sharma, Jack, Nadia, Lars Olsen, Fatima, Julia Weber, Mateo, Chloe Martin, Ahmed "
            "Hassan, Grace, Viktor Petrov, Mei Lin, Paul Brown, Sofia, Oscar, Hannah Green, Ravi, Daniel Cohen, Teresa"
        ),
        "L": words(
            "Lisbon, Toronto, Nairobi, Berlin, New York, Osaka, Lyon, Cairo, Mumbai, Chile, Oslo, Vienna, Sydney, Texas, "
            "Dublin, Poland, Seoul, Cape Town, Milan, Kenya, Boston, Prague, Peru, Hamburg, Leeds, Athens, Portugal, San "
            "Diego, Geneva, Japan"
        ),
        "C": words(
            "Siemens, Nokia, Toyota, Nestle, Volvo, Microsoft, Shell, Sony, Boeing, Pfizer, Heineken, Intel, Lufthansa, "
            "Adidas, Deutsche Bank, General Motors, Philips, Samsung, Northern Rail, Barclays, Google, Ford, Acme Foods, "
            "Harbour Insurance, Ericsson, Pepsi"
        ),
        "D": words(
            "Monday, Friday, 12 May, Tuesday, 3 October, Sunday, Wednesday morning, 21 January 2019, Christmas Eve, 30 "
            "June, Saturday"
        ),
        "M": words("March, 1998, July 2019, August, 2004, April 2021, June, 2015, the summer of 2010"),
    },
)

HELD_OUT = Bank(
    frames="""
Yesterday {P} told me that {C} had been sold in {M} .
The museum of {L} will show the paintings of {P} from {M} .
{C} is building a warehouse outside {L} .
Why did {P} fly to {L} without a suitcase ?
Police in {L} arrested a man on {D} .
The shares of {C} lost a tenth of their value on {D} .
{P} and a cousin run a small hotel near {L} .
Only {P} answered the email that {C} had sent .
Winters in {L} are long and dark .
The factory was founded by {P} in {M} .
By {D} , {C} hopes to employ two hundred people in {L} .
A bus with tourists from {L} broke down near {L} .
The prize went to {P} for a film about {L} .
We ordered the lamps from {C} and they arrived on {D} .
After the war {P} stayed in {L} and opened a shop .
Workers at {C} are going to vote on {D} .
{P} plays the violin and {P} plays the piano .
The ship left {L} on {D} with a cargo of coffee .
Both {C} and {C} make their engines there .
I have not seen {P} since {D} .
The garden needs water and the fence needs paint .
Half of the apples were rotten , so we threw them away .
The cat sleeps on the warm stones behind the house .
Our teacher {P} took the class to {L} .
Customers of {C} could not log in on {D} .
The carrot soup that {P} cooked was too hot to eat .
{C} lost its biggest customer and half of its income .
The boat to the island near {L} runs once a week .
The plums were ripe and the jam was sweet .
Three weeks later the roof was still leaking .
The telescope stands on a mountain far from the city .
The bank raised its fees and lost its best clients .
My uncle grows tomatoes and my aunt keeps bees .
The second half was dull and nobody scored .
The luggage was heavy and the stairs were steep .
""".strip().splitlines(),
    words={
        "P": words(
            "Laura Schmidt, Ibrahim, Kate, Diego Torres, Olga Ivanova, Ben, Amara, Henrik Berg, Lucy Adams, Kenji Sato, "
            "Rosa, Michael, Leila, George Baker, Nina"
        ),
        "L": words(
            "Madrid, Chicago, Lagos, Helsinki, Brazil, Kyoto, Naples, Warsaw, Delhi, Norway, Los Angeles, Zurich, "
            "Morocco, Bristol, Hanoi"
        ),
        "C": words(
            "Renault, Amazon, Bosch, Unilever, Honda, Vodafone, Swiss Air, Oracle, Lidl, Airbus, Southern Steel, Credit "
            "Suisse"
        ),
        "D": words("Thursday, 9 September, Saturday night, 5 February 2012, Easter Monday, 17 July"),
        "M": words("November, 1987, May 2012, 2023, December, the spring of 1969"),
    },
)


def fill(frame: str, bank: Bank, draw: random.Random) -> dict[str, object]:
    """A frame with words of the bank in its blanks, none of them twice, and a tag for every word."""
    text: list[str] = []
    tags: list[str] = []
    left = {blank: draw.sample(choices, len(choices)) for blank, choices in bank.words.items()}
    for piece in frame.split():
        blank = piece.strip("{}") if piece.startswith("{") else ""
        found = left[blank].pop().split() if blank else [piece]
        text += found
        tags += [BLANKS[blank] if blank else "O"] * len(found)
    text[0] = text[0][0].upper() + text[0][1:]
    return {"text": " ".join(text), "label": tags}


def write(path: Path, bank: Bank, copies: int) -> None:
    """Every frame `copies` times; a frame without blanks once."""
    draw = random.Random(path.name)
    lines = [fill(frame, bank, draw) for frame in bank.frames for _ in range(copies if "{" in frame else 1)]
    draw.shuffle(lines)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write(folder / "tagger.jsonl", LEARNED, 6)
    write(folder / "tagger.held-out.jsonl", HELD_OUT, 4)
