"""Bad rows of every kind, written by hand or made from right ones by a fault that a writer of rows makes.

At least thirty for each rule. Rules were chosen on every second one (`[0::2]`); the others are only counted.

Belongs here: rows and the rule that each is planted for. Not here: counting (`human_rows.py`).
"""

# ruff: noqa: RUF001, RUF005 - letters of other alphabets are what these rows are about

from __future__ import annotations

import base64
import random
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]

RIGHT: tuple[tuple[str, str, str, str], ...] = (  # task, query, positive, negative
    (
        "Given a question about household repairs, retrieve instructions that solve it",
        "how do I stop a tap from dripping at night",
        "Turn off the water below the sink and open the tap until it runs dry. Lift off the cap, undo the screw and pull the "
        "handle straight up. In most older taps a rubber washer at the end of the spindle has gone hard. Press in a new one of "
        "the same size and put everything back in reverse order.",
        "A new kitchen tap costs between forty and three hundred euros. Models with a pull-out hose are popular with families, "
        "while plain brass is easier to keep clean. Ask the shop whether the price includes fitting.",
    ),
    (
        "Given a traveller's question, find the passage of a guide book that answers it",
        "when is the best time to see the northern lights in Norway",
        "Between late September and the end of March the nights north of the Arctic Circle are long enough. Clear skies matter "
        "more than the month, so plan for at least four nights. Local offices publish a forecast of the activity every evening.",
        "In June the sun does not set for weeks on the islands off the coast. Fishing boats go out at midnight, and hikers climb "
        "the ridge above the village to look at the sea in golden light.",
    ),
    (
        "Given a patient's question, retrieve medical advice that answers it",
        "is it safe to take two painkillers on the same day",
        "Ibuprofen and paracetamol work in different ways, so adults may take both on one day as long as the daily limit of each "
        "is kept. People with kidney trouble or a stomach ulcer should ask a doctor first. Never combine two medicines of the "
        "same group.",
        "Painkillers are sold in packets of sixteen in supermarkets. The law limits how many a customer may buy at once, and "
        "pharmacists keep larger packets behind the counter.",
    ),
    (
        "Given a news headline, find an article that covers the same event",
        "City council votes to close the old harbour bridge",
        "After a debate of six hours the council decided on Tuesday evening that the iron bridge will be shut to traffic from the "
        "first of May. Engineers had found cracks in two of the piers. Buses will take the tunnel until a new crossing opens.",
        "The harbour museum shows paintings of the iron bridge from three centuries. Entrance is free on Sundays, and children "
        "can build a bridge of their own from wooden parts.",
    ),
    (
        "Given a gardener's question, retrieve advice that answers it",
        "why do the leaves of my tomato plants curl",
        "Hot afternoons make the leaves roll upwards to save water, and they flatten again overnight. If they stay curled and feel "
        "leathery, too much pruning is the usual cause. Aphids on the underside leave sticky traces; wash them off with soapy "
        "water early in the morning.",
        "Tomatoes came to Europe in the sixteenth century and were grown as ornaments for a long time. Italian cooks were among "
        "the first to use them in sauces.",
    ),
    (
        "Match the beginning of a story with its end",
        "The lighthouse keeper found a letter under the door that morning.",
        "He folded the letter, lit the lamp for the last time and walked down to the boat where his daughter was waiting for him.",
        "The inspector closed the file and told the family that the ship had never left the harbour in the first place.",
    ),
)  # fmt: skip

LABELLED: tuple[tuple[str, str, str, str], ...] = (  # task, text, label, other label
    ("Classify customer messages by the issue they report", "The parcel came three days late and nobody told me why it took so long.", "delivery", "refund"),
    ("Classify film reviews by sentiment", "Two hours of my life that I would gladly spend again tomorrow evening.", "positive", "negative"),
    ("Classify news by section", "The striker scored twice before the break and limped off in the last minute.", "sports", "politics"),
    ("Classify complaints to a bank", "I paid in a restaurant abroad and was charged twice for the same dinner.", "card payment", "exchange rate"),
    ("Classify letters by area of law", "My landlord kept the deposit although the flat was left clean and empty.", "tenancy law", "family law"),
)  # fmt: skip


def triplet(number: int, **changes: str) -> Row:
    """A right row with other fields."""
    task, query, positive, negative = RIGHT[number % len(RIGHT)]
    return {
        "task_type": "retrieval", "topic": "planted", "task": task, "query": query,
        "positive": positive, "negative": negative,
    } | changes  # fmt: skip


def labelled(number: int, **changes: str) -> Row:
    """A right row of classification with other fields."""
    task, query, positive, negative = LABELLED[number % len(LABELLED)]
    return {
        "task_type": "classification", "topic": "planted", "task": task, "query": query, "positive": positive,
        "negative": negative,
    } | changes  # fmt: skip


def _in_turn(texts: Iterable[str], fields: tuple[str, ...] = ("positive", "negative", "query")) -> list[Row]:
    return [triplet(number, **{fields[number % len(fields)]: text}) for number, text in enumerate(texts)]


def _after(texts: Iterable[str], fields: tuple[str, ...] = ("positive", "negative")) -> list[Row]:
    """Right documents with a text after them."""
    rows = []
    for number, text in enumerate(texts):
        field = fields[number % len(fields)]
        rows.append(triplet(number, **{field: f"{triplet(number)[field]}{text}"}))
    return rows


REFUSALS = (
    "I'm sorry, but I can't help with writing this document.",
    "I cannot provide an example for this task.",
    "Unfortunately, I am unable to generate the text. Ask again with another topic.",
    "Sorry, I can't assist with that.",
    "I apologize, but I cannot create content of this kind.",
    "I'm sorry, but I can't fulfill this request.",
    "I'm unable to provide medical advice on this topic.",
    "I can't write a story about this subject.",
    "I am sorry, but I cannot comply with your request.",
    "As an AI, I cannot generate such a document.",
    "I won't be able to answer this question.",
    "I'm sorry, I cannot complete this task without more information.",
    "I cannot assist you with creating such content.",
    "I must decline to write this text.",
    "My apologies, but I can't produce this passage.",
    "Sorry, but this request goes against my guidelines.",
    "I don't feel comfortable writing this document.",
    "Unfortunately I can't provide the information that you ask for.",
    "I will not write such an article.",
    "I'm afraid I can't do that.",
    "I cannot engage in discussions about this topic.",
    "I'm sorry, but I don't have enough information to write the query.",
    "No topic was provided, so I cannot write a query.",
    "Please provide the topic so that I can write the document.",
    "I can't help with that request.",
    "I understand your request, but I cannot provide a summary of the book.",
    "I am not able to translate this text.",
    "I’m sorry, but I can’t continue this conversation.",
    "I cannot give a specific answer to that question.",
    "Sorry, I do not understand the task.",
    "I can't generate an example that meets these requirements.",
    "I'm sorry, but I cannot discuss this topic with you.",
    "I am unable to fulfil your request at this time.",
    "I cannot produce the document because the topic is not clear.",
)
AS_AN_AI = tuple(
    f"{start}{rest}"
    for start in ("As an AI language model, I ", "As an AI assistant, I ", "As a large language model, I ", "As a language model, I ",
                  "As an artificial intelligence, I ", "As an AI developed by a company, I ")
    for rest in ("do not have personal experiences, but many people like the place.", "have no taps at home.",
                 "would suggest asking an expert.", "was trained on texts until last year.", "lack access to the news of today.")
) + ("I am an AI language model and have no garden.", "I'm an AI assistant, so I never travel.", "I'm just an AI, but the bridge seems to be closed.",
     "I am a large language model trained to help people.")  # fmt: skip
TEMPLATE = (
    "user_query: how to mend a tap", '"positive_document": "Turn off the water."', "hard_negative_document: A new tap costs much.",
    "input_text: The parcel was late.", "Dear [Your Name], thank you for the letter about the garden.", "Sincerely, [Your Name]",
    "A document about {topic} that answers the question.", "Write about {task} in a clear way.", "The query is {query_type} and short.",
    "[Insert document here]", "<Your text here>", "[Insert Name], we are glad to hear from you.", "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    "misleading_label: refund", "The {query} has no answer in this text.", "positive_document = The bridge is closed.",
    "Contact [Your Company] for more about the bridge.", "**user_query**: northern lights season", "{{topic}} is a matter of taste for many people.",
    "[INSERT TEXT]", "Dear [Name], the repair was done on Monday.", "On [Date] the council will meet again.", "'hard_negative_document': 'none'",
    "text with {document_length} about gardens", "Presupposes {difficulty} education.", "[Your Address]\nDear neighbours, the bridge is closed.",
    "<Insert query>", "input_text = I want my money back", "Hello, [Insert Your Name Here]!", "The document in question has {text_length}.",
    "user_query", "Best wishes, [Company Name]", "S1 is known for its resilient reefs.", "S2 was built in three years.",
    "old_bridges_damaged_by_recent_construction_hard_negative_document", "Positive_document_about_the_garden_bridge",
)  # fmt: skip
OTHER_LANGUAGE = (
    "Drehen Sie das Wasser unter der Spüle ab und öffnen Sie den Hahn, bis nichts mehr kommt.",
    "Comment empêcher un robinet de goutter pendant la nuit ?",
    "Entre finales de septiembre y marzo las noches son lo bastante largas para ver la aurora.",
    "Perché le foglie delle mie piante di pomodoro si arricciano?",
    "O conselho decidiu que a ponte de ferro será fechada a partir de maio.",
    "Na een debat van zes uur besloot de raad dat de brug dicht moet.",
    "Dlaczego liście moich pomidorów się zwijają w upalne dni?",
    "Varför rullar bladen på mina tomatplantor ihop sig på eftermiddagen?",
    "Hvornår er det bedste tidspunkt at se nordlyset i Norge?",
    "Miksi tomaattieni lehdet käpristyvät kuumina iltapäivinä?",
    "De ce se răsucesc frunzele roșiilor mele după-amiaza?",
    "Proč se listy mých rajčat za horkých odpolední kroutí?",
    "Miért pöndörödnek a paradicsomom levelei a forró délutánokon?",
    "Domates bitkilerimin yaprakları neden kıvrılıyor acaba?",
    "Mengapa daun tanaman tomat saya menggulung pada siang hari?",
    "Per què es cargolen les fulles de les meves tomaqueres a la tarda?",
    "Zašto se listovi mojih rajčica uvijaju za vrućih popodneva?",
    "Kodėl mano pomidorų lapai susisuka karštomis popietėmis?",
    "Le musée du port montre des tableaux du pont de fer, l'entrée est gratuite le dimanche.",
    "Der Leuchtturmwärter fand an jenem Morgen einen Brief unter der Tür.",
    "El farero encontró aquella mañana una carta debajo de la puerta.",
    "Il guardiano del faro trovò quella mattina una lettera sotto la porta.",
    "Un robinet de cuisine neuf coûte entre quarante et trois cents euros selon le modèle.",
    "Ist es sicher, an einem Tag zwei verschiedene Schmerzmittel zu nehmen?",
    "¿Es seguro tomar dos analgésicos diferentes en el mismo día?",
    "Les tomates sont arrivées en Europe au seizième siècle comme plantes d'ornement.",
    "In giugno il sole non tramonta per settimane sulle isole al largo della costa.",
    "Vuurtorenwachter vindt vanochtend een brief onder de deur van zijn huis.",
    "Fyrvaktaren hittade ett brev under dörren den morgonen.",
    "Latarnik znalazł tego ranka list pod drzwiami swojego domu.",
    "Os analgésicos são vendidos em caixas de dezesseis nos supermercados.",
    "Tại sao lá cây cà chua của tôi bị cuốn vào buổi chiều?",
)
OTHER_SCRIPT = (
    "Почему скручиваются листья моих помидоров?", "夜间如何防止水龙头滴水", "なぜトマトの葉が巻くのですか", "토마토 잎이 왜 말리나요?",
    "لماذا تلتف أوراق نباتات الطماطم", "מדוע העלים של העגבניות שלי מתקפלים", "Γιατί κατσαρώνουν τα φύλλα της ντομάτας;",
    "मेरे टमाटर के पत्ते क्यों मुड़ते हैं", "ทำไมใบมะเขือเทศของฉันจึงม้วน", "Совет решил закрыть железный мост с первого мая.",
    "市议会决定关闭旧港口的铁桥。", "港の古い橋は五月から閉鎖されます。", "항구의 낡은 다리는 5월부터 폐쇄됩니다.",
    "قرر المجلس إغلاق الجسر الحديدي", "Маяк нашёл письмо под дверью.", "Чому скручується листя моїх помідорів?",
    "Защо се навиват листата на доматите ми?", "Зашто се увијају листови мог парадајза?", "আমার টমেটো গাছের পাতা কেন কুঁকড়ে যায়",
    "என் தக்காளி செடியின் இலைகள் ஏன் சுருள்கின்றன", "నా టమాటా మొక్కల ఆకులు ఎందుకు ముడుచుకుంటాయి", "ინჩის ფოთლები რატომ ეხვევა",
    "Ինչու են ոլորվում լոլիկի տերևները", "这个水龙头为什么一直滴水", "新しい蛇口はいくらですか", "새 수도꼭지는 얼마입니까",
    "Новый кран стоит от сорока евро.", "Το φως του βορρά φαίνεται τον χειμώνα.", "北极光最佳观赏时间", "Лучшее время для северного сияния",
)  # fmt: skip

LABEL_TOLD = (
    "{text} Label: {label}", "Label: {label}. {text}", "{label}: {text}", "{text} ({label})", "{text} Category: {label}",
    "This message is about {label}. {text}", "This is a complaint about {label}. {text}", "{text} This text is classified as {label}.",
    "{text} #{label}", '{text} "{label}"', "{text}\n{label}", "{text} - {label}", "{text} [{label}]", "The class of this text is {label}. {text}",
    "{text} The sentiment is {label}.", "{text} Topic: {label}", "{label}", "{label} - {text}", "{text} This review is clearly {label}.",
    "{text} Intent = {label}", "{text} This text belongs to the category {label}.", "{text} The correct label is {label}.",
    "{text} It should be tagged as {label}.", "The following message concerns {label}: {text}", "{text} Answer: {label}",
    "{text} (label: {label})", "**{label}** {text}", "This post falls under {label}. {text}", "{text} Type: {label}.", "{text} {label}.",
    "This is a text about {label}. {text}", "{text} Classification: {label}",
)  # fmt: skip

NOISE = (
    "LIFAddingAscendablassamSearchVBAJIncluding", "AhIa1BwWR8kBjJSystemCased-9Acbb65EvRspZ5Pln", "authentication_2014_12_04_15_08_22",
    "1.swfswaprapsandjavajImagineinreal-zmJn", "asdkjh qwelkj zxmnb tyuqwe lkjhgf", "NeutrALL", "EleZLAL",
    "sdfkjh wqeriu xcvmnb qwpoei zmxncb", "aHR0cHM6Ly93d3cuZXhhbXBsZS5jb20vYXBpL3Yx", "thequickbrownfoxjumpsoverthelazydogandrunsaway",
    "QmVzdFRhcHNGb3JLaXRjaGVucw9Zx8Kq", "xkcdvbnmqwrtplkjh", "GardenTomatoLeavesCurlingAfternoonHeatWaterNightAphids",
    "fjdksl vjfkdl qjxzvw jkfdls", "U2FsdGVkX19Zk3Yp1mQeR7tWcB0aLxN2", "theNorthernlightsandislands_forecastEveningNorwayX",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "BridGEEE", "zqxwvkjh mnbvcxz lkjhgfd poiuqw", "session_4_17_2_9_1_0_22",
    "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4", "councilvotesclosingharbourbridgeenginerspierscracks",
    "HarbouringmuseumpaintingsFreeSundaysXx", "jklsdf jklsdf fghjkl dfghjk", "MedICINEE", "wrtzplkmnbvcxs", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
    "TravellerquestionguideBookPassageAnswersRetrieveXML", "qwe asd zxc qwe asd zxcv jkl", "painkillers_1_2_3_4_5_6",
    "XvQ7pLm2ZkR9tBw4NcY8dHs3", "PaINKILLersRRR",
)  # fmt: skip

MARKUP = (
    '```json\n{"query": "northern lights"}\n```', '{"user": "how do I mend a tap"}', "<p>Turn off the water below the sink.</p>",
    "Turn off the water.<br>Lift off the cap.", "The bridge is closed.\\n\\nBuses take the tunnel.", '{"S1": "The bridge is closed", "S2": "It is shut"}',
    "<div class=\"text\">Between September and March</div>", "Aphids &amp; snails love tomatoes.", "<|im_start|>assistant\nThe bridge is closed.",
    "[INST] Write a query [/INST] northern lights", "```\nwhy do leaves curl\n```", "<b>Never</b> combine two medicines of the same group.",
    '"text": "The bridge is closed from May on"', "The bridge is closed.</s>", "<document>Turn off the water.</document>", "### Response: The bridge is closed.",
    "The nights are long.\\nClear skies matter.", "Hot afternoons make leaves roll&nbsp;upwards.", '[{"label": "sports"}]', "<li>a rubber washer</li><li>a screwdriver</li>",
    "<query>best time for northern lights</query>", "The council \\u201cdecided\\u201d on Tuesday.", 'The bridge is closed."}', "<h2>Closing of the bridge</h2> It is shut.",
    "```markdown\n# The bridge", "<think>The user wants a query.</think> northern lights", "Ibuprofen &lt; paracetamol in price.", "<a href='x'>Local offices</a> publish a forecast.",
    '{\n  "input": "the lighthouse keeper"', "'label': 'sports'", "<strong>Tomatoes</strong> came to Europe late.", "json\n{\"a\": 1}",
)  # fmt: skip

ABOUT = (
    "This document discusses how to repair taps in old houses.", "The passage describes the best time to see the northern lights.",
    "This document does not answer the query, but it is on the same subject.", "This passage provides information on painkillers.",
    "The text explains why leaves curl in the heat.", "This document is about the closing of a bridge.", "This hard negative document covers the price of taps.",
    "The following document outlines the history of tomatoes.", "This is a hard negative for the query about taps.",
    "The document mentions taps, yet it is not relevant to the query.", "This text is an example of a document on painkillers.",
    "The above passage discusses the council's vote.", "The positive document explains how to mend a tap.", "This document would be useful for travellers to Norway.",
    "This passage is related to the query but does not answer it.", "The document focuses on the museum instead of the bridge.",
    "While this document talks about bridges, it does not address the user's query.", "The passage explores the history of tomatoes in Italy.",
    "This document also contains advice on pruning.", "The given text highlights the risks of painkillers.", "This document seems relevant, as it mentions Norway.",
    "The excerpt deals with the keeper's letter.", "This snippet describes a lighthouse in winter.", "This document fails to answer the user's query about taps.",
    "The document presents a list of prices.", "This document offers a detailed guide to the repair of taps.", "The second document describes another bridge.",
    "This passage may be relevant to the query of a gardener.", "The document provided does not directly answer the query.", "This document answers the query about northern lights.",
    "The passage details the process of changing a washer.", "This document delves into the world of painkillers.",
)  # fmt: skip

PERSONAL = (
    "Write to marta.keller@gmx.net for the forecast.", "Call me on +49 171 5550 4711 after six.", "My card is 4111 1111 1111 1111, valid until May.",
    "Transfer it to DE89 3704 0044 0532 0130 00, please.", "Reach her at 212-867-5309 in the evening.", "My mail is j_smith77@yahoo.com, thanks.",
    "The number is (415) 867-2210, ask for Tom.", "Pay with 5500 0000 0000 0004 at the counter.", "IBAN GB29 NWBK 6016 1331 9268 19 is mine.",
    "Please ring 0171 / 4567 8901 when the parcel comes.", "Contact info@harbour-museum.org about the paintings.", "His phone: +44 20 7946 0958.",
    "Card number 378282246310005 was charged twice.", "FR14 2004 1010 0505 0001 3M02 606 is the account.", "Send the photos to ana.p@outlook.com today.",
    "My old number 646.555.9012 is gone, use 646.867.9012.", "You can email helpdesk@mybank.co.uk or wait.", "Dial +1 650 253 0000 for the office.",
    "They took 6011 1111 1111 1117 from the form.", "NL91 ABNA 0417 1643 00 belongs to my sister.", "Tell bob_builder@company.io that the tap drips.",
    "Call 030 1234567 between nine and five.", "+33 1 42 68 53 00 is the number of the hotel.", "The card 4242-4242-4242-4242 does not work.",
    "AT61 1904 3002 3457 3201 is where the deposit goes.", "Questions? peter@schmidt-garten.de answers them.", "Mobile: 917-402-3345, home: none.",
    "Use 4012 8888 8888 1881 for the booking.", "CH93 0076 2011 6238 5295 7 is my Swiss account.", "mary.o'neil@hospital.ie wrote to me.",
    "Her number is +39 06 6982 1234, I think.", "Fax it to 202-456-1414 by noon.",
)  # fmt: skip


OPENINGS = (
    "Sure! Here is a document about mending taps: Turn off the water first.", "Certainly! Here's a short text on the northern lights.",
    "Here is an example of a relevant document:\nBetween September and March the nights are long.", "Of course! I can write a document that misleads the reader.",
    "Absolutely! Below is a passage on painkillers:\nAdults may take both.", "Sure, here's the query: why do leaves curl", "Okay, here is the text you asked for. The bridge is shut.",
    "Here's the revised version of the text: The keeper folded the letter.", "I have written a passage that fits the query:\nTurn off the water.",
    "Great! Let me give you an example of such a text. The museum is free on Sundays.", "Below is an article on the bridge:\nThe council decided on Tuesday.",
    "Sure thing! This is a sample document.", "The following is a short story:\nThe keeper found a letter.", "Certainly, I'd be happy to provide a document on tomatoes.",
    "Alright, here are two sentences: The tap drips. It is old.", "Here are the requested sentences:\nThe tap drips.",
    "Turn off the water below the sink. Let me know if you need another version.", "Clear skies matter more than the month. I hope this meets your requirements.",
)  # fmt: skip

REPEATED = (
    "The bridge is closed.", "Turn off the water below the sink.", "I love this product so much!", "The nights are long in winter.", "How do I mend a tap?",
    "Tomatoes came to Europe late.", "She folded the letter and left.", "Ask a doctor first.", "Clear skies matter.", "The council decided on Tuesday.",
    "The keeper lit the lamp.", "A new tap costs forty euros.", "It works well for me.", "Aphids leave sticky traces.", "The law limits the packets.", "The ship never left the harbour.",
)  # fmt: skip

PREFIXED = (
    "S1: the bridge is closed", "Document: Turn off the water below the sink.", "Query: why do leaves curl", "**Document:** The nights are long.", "S2: It is shut.",
    "Hard negative: A new tap costs forty euros.", "Positive document: Lift off the cap.", "Text: the parcel came late", "Passage: Tomatoes came to Europe late.",
    "Negative: Painkillers are sold in packets.", "User query: how do I stop a tap from dripping", "Sentence 1: The lighthouse is old.",
    "Text to be classified", "Your text here", "A document that answers the query", "[Text to classify]", "Query goes here", "The text that is to be classified.",
    "Insert document here", "string", "A hard negative document", "input text to be classified", "<text to be labelled>", "Document to be retrieved",
)  # fmt: skip

SAME_LABEL = (("Negative.", "negative"), ("Refund", "refund"), ("very-negative", "Very negative"), ("sports", "Sports!"), ("card_payment", "card payment"),
    ("'positive'", "positive"), ("tenancy law", "Tenancy Law."), ("DELIVERY", "delivery"))  # fmt: skip


def _repetition() -> list[Row]:
    """One sentence alone or after a right beginning, again and again; words that a writer fell into repeating."""
    rows = []
    for number, sentence in enumerate(REPEATED):
        many = " ".join([sentence] * (3 + number % 5))
        loop = f" {' '.join(sentence.lower().strip('.!?').split()[:4])}" * 5
        field = ("positive", "negative")[number // 2 % 2]
        begun = triplet(number)[field].partition(". ")[0]
        rows += [triplet(number, **{field: many}), triplet(number, **{field: f"{begun} and{loop}"})]
        rows.append(triplet(number, **{field: f"{begun}. " + " ".join([sentence] * (len(begun) // len(sentence) + 3))}))
    return rows


def _unfinished() -> list[Row]:
    """Documents cut at a place where no sentence ends, as a token limit cuts."""
    rng = random.Random(5)
    rows: list[Any] = []
    while len(rows) < 48:
        number = len(rows)
        field = ("positive", "negative")[number % 2]
        whole = triplet(number)[field]
        words = whole.split()
        at = rng.randrange(21, len(words)) if len(words) > 22 else 0
        if not at or words[at - 1][-1] in ".!?":
            text = f"{RIGHT[0][2]} {whole}".split()
            at = rng.randrange(40, len(text))
            while text[at - 1][-1] in ".!?":
                at -= 1
            words = text
        cut = " ".join(words[:at])
        if number % 3 == 0:
            cut = cut[: -max(1, len(words[at - 1]) // 2)].rstrip()  # within a word
        rows.append(triplet(number, **{field: cut}))
    return rows


def _noise() -> list[Row]:
    rows = []
    for number, text in enumerate(NOISE):
        if number % 2 or " " not in text:
            rows.append(triplet(number, task_type="sts", query=text))
        else:
            rows.append(triplet(number, positive=text))
    return rows


def _encoded(count: int) -> list[Row]:
    rng = random.Random(9)
    return [
        triplet(number, positive=f"{RIGHT[number % 6][2]} {base64.b64encode(rng.randbytes(40)).decode()}")
        for number in range(count)
    ]


def _labels() -> list[Row]:
    return [
        labelled(number, query=form.format(text=LABELLED[number % 5][1], label=LABELLED[number % 5][2]))
        for number, form in enumerate(LABEL_TOLD)
    ]


def _copies(part: str, into: str, count: int = 30) -> list[Row]:
    rows = []
    for number in range(count):
        row = triplet(number)
        form = ("{0} {1}", "{1} {0}", "They ask: {0}? {1}", "{1} So, {0}!", "{0}: {1}")[number % 5]
        rows.append(row | {into: form.format(row[part], row[into])})
    return rows


def _with_text_of_other_rows(field: str) -> list[Row]:
    """Rows of one query that have the first one's negative with another positive, or a positive of it as their negative."""
    rows = []
    for number in range(128 if field == "negative" else 32):
        row = triplet(number // 4, query=f"{RIGHT[number // 4 % 6][1]} in house number {number // 4 * 7919 + 11}")
        others = [right for right in RIGHT if right[1] not in row["query"]]
        if field == "negative":
            rows.append(row | {"positive": others[number % 4][2], "right": number % 4 < 2})
        else:
            wrong = [row["positive"], *(other[2] for other in others)]
            rows.append(row | {"positive": wrong[number % 4], "negative": wrong[(number + 2) % 4]})
    return rows


def _planted() -> dict[str, list[Row]]:
    return {
        "refusal": _in_turn(REFUSALS),
        "as_an_ai": _in_turn(AS_AN_AI, ("positive", "negative")),
        "template_echo": [*_in_turn(TEMPLATE), *_in_turn(PREFIXED)],
        "task_echo": [triplet(n, query=triplet(n)["task"].upper() if n % 2 else triplet(n)["task"]) for n in range(30)],
        "other_script": _in_turn(OTHER_SCRIPT),
        "other_language": _in_turn(OTHER_LANGUAGE),
        "label_in_text": _labels(),
        "query_in_negative": _copies("query", "negative"),
        "query_in_positive": [row for row in _copies("query", "positive", 36) if len(row["query"].split()) >= 8],
        "same_positive_negative": [
            *(triplet(n, negative=triplet(n)["positive"].upper().replace(",", ";")) for n in range(30)),
            *(labelled(n, positive=one, negative=other) for n, (one, other) in enumerate(SAME_LABEL)),
            *(
                triplet(n, positive=f"1. {triplet(n)['positive']}", negative=f"2) {triplet(n)['positive']}")
                for n in range(10)
            ),
        ],
        "same_query_negative": [triplet(n, negative=f"{triplet(n)['query'].title()}!") for n in range(30)],
        "unfinished": _unfinished(),
        "noise": [*_noise(), *_encoded(16)],
        "markup": _in_turn(MARKUP),
        "about_the_document": [
            *_in_turn(ABOUT, ("positive", "negative")),
            *_in_turn(OPENINGS, ("positive", "negative")),
        ],
        "repetition": _repetition(),
        "repeated_negative": _with_text_of_other_rows("negative"),
        "negative_is_positive": _with_text_of_other_rows("positive"),
        "personal_data": [*_after(f" {text}" for text in PERSONAL)],
    }


PLANTED: dict[str, list[Row]] = _planted()
"""Rows by the rule that they break."""
