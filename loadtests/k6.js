// For people who prefer k6:  k6 run -e URL=http://127.0.0.1:8000 -e KEY=ck_... -e ADAPTERS=one,two loadtests/k6.js
// Open loop (constant-arrival-rate); RATE requests per second for DURATION, adapters by Zipf's law. Every answer is
// checked for who gave it; a run with a wrong one, or with more than 1 % failures, ends with a code other than 0.
import http from "k6/http";
import { check } from "k6";
import { Counter } from "k6/metrics";

const URL = __ENV.URL || "http://127.0.0.1:8000";
const KEY = __ENV.KEY || "";
const HEADERS = Object.assign({ "Content-Type": "application/json" }, KEY ? { Authorization: `Bearer ${KEY}` } : {});
const TEXTS = [
  "The ferry was late again, and nobody said why.",
  "A quiet morning in the harbour, with fresh bread and strong coffee.",
  "Never again.",
];
const wrong = new Counter("wrong_answers");

export const options = {
  scenarios: {
    predict: {
      executor: "constant-arrival-rate",
      rate: Number(__ENV.RATE || 50),
      timeUnit: "1s",
      duration: __ENV.DURATION || "60s",
      preAllocatedVUs: 64,
      maxVUs: 2048,
    },
  },
  thresholds: {
    wrong_answers: ["count==0"],
    http_req_failed: ["rate<0.01"],
    dropped_iterations: ["count==0"], // k6 itself could not keep up
  },
};

export function setup() {
  if (__ENV.ADAPTERS) return ranked(__ENV.ADAPTERS.split(","));
  const names = [];
  for (let after = ""; after !== null; ) {
    const page = http.get(`${URL}/v1/adapters${after && `?after=${encodeURIComponent(after)}`}`, { headers: HEADERS }).json();
    const classify = (entry) => entry.current && entry.current.task === "text-classification";
    names.push(...page.items.filter(classify).map((entry) => entry.name));
    after = page.next;
  }
  if (!names.length) throw new Error("the service lists no classification adapters: name some with -e ADAPTERS=one,two");
  return ranked(names);
}

export default function (ranks) {
  const point = Math.random() * ranks[ranks.length - 1].end;
  const adapter = ranks.find((rank) => point <= rank.end).name;
  const inputs = [TEXTS[Math.floor(Math.random() * TEXTS.length)]];
  const answer = http.post(`${URL}/v1/predict`, JSON.stringify({ inputs, adapters: [adapter] }), { headers: HEADERS });
  if (!check(answer, { answered: (told) => told.status === 200 })) return;
  let right = false;
  try {
    const told = answer.json();
    right = told.target.adapters[told.target.adapters.length - 1].name === adapter && told.outputs.length === 1;
  } catch (error) {
    console.error(`an answer of another shape: ${error}`); // wrong as well, and k6 would end this iteration without a word
  }
  if (!check(right, { "by the right adapter": (is) => is })) wrong.add(1);
}

function ranked(names) {
  const s = Number(__ENV.ZIPF_S || 1);
  let end = 0;
  return names.map((name, rank) => ({ name, end: (end += Math.pow(rank + 1, -s)) }));
}
