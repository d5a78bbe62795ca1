"""The same fact in several languages, with its value, as tests of words in any script want it."""

from __future__ import annotations

SENTENCES = {
    "zh": ("陈小雨1971年出生于北京市，是一名医生。", "北京市"),
    "ja": ("高橋さくらは1971年に横浜で生まれたピアニストです。", "横浜"),
    "th": ("เธอเกิดที่กรุงเทพมหานครในปี ๒๕๑๔ และเป็นครู", "กรุงเทพมหานคร"),
    "km": ("គាត់កើតនៅភ្នំពេញក្នុងឆ្នាំ១៩៧១។", "ភ្នំពេញ"),
    "lo": ("ນາງເກີດຢູ່ວຽງຈັນໃນປີ 1971", "ວຽງຈັນ"),
    "my": ("သူမကို ရန်ကုန်မြို့တွင် ၁၉၇၁ ခုနှစ်၌ မွေးဖွားခဲ့သည်။", "ရန်ကုန်မြို့"),
    "ko": ("김민지는 1971년 서울에서 태어난 의사이다.", "서울"),
    "ar": ("ولدت ليلى في القاهرة عام ١٩٧١ وهي طبيبة.", "القاهرة"),
    "hi": ("उसका जन्म 1971 में दिल्ली में हुआ और वह शिक्षिका है।", "दिल्ली"),
    "ru": ("Анна Петрова родилась в Москве в 1971 году.", "Москве"),
    "de": ("Jürgen Groß wurde 1971 in München geboren.", "München"),
    "mixed": ("Ada Brook（エイダ）出生于Lima，ชื่อเล่น Ада, 서울에서 1971년.", "Lima"),
}
"""Language, to a sentence and the value that it holds."""

OTHERS = {
    "zh": "她喜欢读书", "ja": "犬が走る", "th": "ผี", "km": "ទឹក", "lo": "ຝົ", "my": "ပူ", "ko": "비가 온다",
    "ar": "المطر غزير", "hi": "बारिश होगी", "ru": "Идёт дождь", "de": "Öl fließt", "mixed": "雨が降る",
}  # fmt: skip
"""Language, to a text that has no word with its sentence in common."""
