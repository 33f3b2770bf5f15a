// One task after the other: tasks are leased ahead, answers are sent behind, and what is not sent yet survives a closed window.
const $ = (id) => document.getElementById(id);
const work = $("work"), trouble = $("trouble"), told = $("status"), bar = $("bar");
const { base, token, principal, ahead, lease } = work.dataset;
const AHEAD = Number(ahead), LOW = 3, IDLE = 10 * 60_000, AGAIN = 15_000, SOON = 4_000;
const HOLD = Math.max(1_000, Math.min(Number(lease) * 1_000 / 3, 5 * 60_000)); // leases are held again after a third of their time
const DOUBLE = 400; // a second click or Enter within this time is not about the task that has come meanwhile
const queue = []; // tasks that are leased and not shown yet
const given = []; // {task, answer}: what can be taken back
let current = null, shownAt = 0, touched = false, answered = 0, fetching = false, empty = false, active = Date.now();

// --- talking to the gateway --------------------------------------------------------------------------------------------

class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail || `the gateway answered ${status}`);
    Object.assign(this, { status, problem });
  }
}

function form(fields) {
  const body = new URLSearchParams({ token });
  for (const [name, value] of Object.entries(fields)) for (const each of [value].flat()) body.append(name, each);
  return body;
}

async function post(path, fields, at = base) {
  const response = await fetch(`${at}/${path}`, { method: "POST", body: form(fields), headers: { Accept: "application/json" } });
  if (response.ok) return response.json();
  throw new Refusal(response.status, await response.json().catch(() => ({})));
}

const passing = (error) => !(error instanceof Refusal) || error.status >= 500 || error.status === 429;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// --- telling people ----------------------------------------------------------------------------------------------------

function say(text) {
  told.textContent = text;
}

function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

function alarm(text, { calm = false, link = "" } = {}) {
  trouble.hidden = !text;
  trouble.classList.toggle("calm", calm);
  trouble.textContent = text;
  if (link) trouble.append(" ", element("a", { href: location.href, textContent: link }));
  else if (text) {
    const close = element("button", { type: "button", className: "quiet", textContent: "Dismiss" });
    close.addEventListener("click", () => alarm(""));
    trouble.append(" ", close);
  }
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

function count(reply) {
  const number = new Intl.NumberFormat("en");
  $("decided").textContent = `${number.format(reply.decided)} of ${number.format(reply.total)} decided`;
}

// --- what is not sent yet ----------------------------------------------------------------------------------------------
// One entry an answer, in order, of whatever campaign: who goes on to another one leaves nothing behind. Each has a key of its own: two
// windows that send the same entry do no harm.

const STORE = `perdure/${encodeURIComponent(principal)}/`;
let sending = false, number = 0, failures = 0;

const name = () => `${STORE}${String(Date.now()).padStart(15, "0")}-${String(++number).padStart(6, "0")}`;
const fieldsOf = (entry) => JSON.parse(localStorage.getItem(entry)).fields;
const unsent = () => Object.keys(localStorage).filter((key) => key.startsWith(STORE)).sort();

function keep(path, fields) {
  localStorage.setItem(name(), JSON.stringify({ at: base, path, fields }));
  send();
}

async function send() {
  if (sending) return;
  sending = true;
  try {
    for (let entry; (entry = unsent()[0]); ) {
      const { at, path, fields } = JSON.parse(localStorage.getItem(entry));
      try {
        const reply = await post(path, fields, at);
        localStorage.removeItem(entry);
        if (failures) alarm("");
        failures = 0;
        if (reply.told) {
          alarm(`${fields.task}: ${reply.told}`, { calm: true });
          fill(); // the campaign may be over
        }
      } catch (error) {
        if (sessionOver(error)) return signedOut(error);
        if (!passing(error)) {
          localStorage.removeItem(entry);
          refused(path, fields, error, at === base);
          continue;
        }
        failures += 1;
        const waiting = unsent().length;
        alarm(`${waiting === 1 ? "One answer is" : `${waiting} answers are`} not sent yet: the gateway cannot be reached. ` +
          "They are kept in this browser, and are sent as soon as it can. You may go on.", { calm: true });
        await pause(Math.min(500 * 2 ** failures, SOON));
      }
    }
  } finally {
    sending = false;
  }
}

// a token of another session is no refusal of an answer: somebody has signed in anew in another window
const sessionOver = (error) => error.status === 401 || (error.status === 403 && error.problem.field === "token");

function signedOut({ status }) {
  const waiting = unsent().length;
  const kept = waiting ? ` ${waiting === 1 ? "One answer is" : `${waiting} answers are`} kept in this browser.` : "";
  const why = status === 401
    ? `You are signed out: your session is over.${kept} Open a new link (\`perdure keys login\` makes it), then`
    : `You have signed in anew in another window.${kept} Please`;
  alarm(why, { link: "load this page anew." });
}

function refused(path, fields, error, here) {
  const what = path === "undo" ? "Your answer could not be taken back" : `Your answer to ${fields.task} was not taken`;
  alarm(`${what}: ${sentence(error.message)}${error.problem.remedy ? ` What to do: ${error.problem.remedy}.` : ""}`);
  const at = given.findIndex((each) => each.answer.key === fields.key);
  if (path !== "undo" && at >= 0) given.splice(at, 1); // it may be given out again
  if (here && path === "undo" && current && current.task === fields.task) next(); // it stands as it is
  fill(); // the campaign may be over
}

// --- tasks -------------------------------------------------------------------------------------------------------------

async function fill(anew = false) {
  if (fetching) return;
  fetching = true;
  try {
    const reply = await post("tasks", { want: Math.max(1, AHEAD - queue.length - (current ? 1 : 0)), anew });
    const known = new Set([...queue, current, ...unsent().map(fieldsOf)].filter(Boolean).map((task) => task.assignment));
    // what was answered a moment ago may be given out again while the answer is on its way
    const answers = new Set([...unsent().map(fieldsOf), ...given.map((each) => each.answer)].map((each) => each.task));
    for (const task of reply.tasks.filter((each) => !known.has(each.assignment) && !answers.has(each.task))) {
      task.until = Date.now() + task.seconds * 1_000;
      for (const image of parsed(task).querySelectorAll("img")) new Image().src = image.src; // there when the task is shown
      queue.push(task);
    }
    empty = reply.tasks.length === 0;
    count(reply);
    if (reply.state === "closed") over();
    else if (!current && queue.length) next();
    else if (!current) nothing(reply.state);
  } catch (error) {
    if (sessionOver(error)) signedOut(error);
    else if (passing(error)) {
      if (!current) nothing("unreachable");
    } else if (!current) nothing("refused", sentence(error.message));
  } finally {
    fetching = false;
  }
}

function nothing(state, why = "") {
  const text = {
    open: "Nothing is waiting for you here at the moment. This page looks again by itself.",
    paused: "This campaign is paused: no tasks are given out. This page looks again by itself.",
    closed: "This campaign is closed. Thank you.",
    unreachable: "The gateway cannot be reached. This page tries again by itself.",
    refused: why,
  }[state];
  work.replaceChildren(element("p", { className: "empty", textContent: text }));
  bar.hidden = !given.length;
  $("undo").disabled = !given.length;
  $("skip").hidden = true;
}

function over() {
  queue.length = 0;
  current = null;
  nothing("closed");
}

function parsed(task) {
  const template = document.createElement("template");
  template.innerHTML = task.html; // made by the gateway, with everything escaped
  return template.content;
}

function show(task) {
  current = task;
  work.replaceChildren(parsed(task));
  shownAt = Date.now();
  touched = false;
  bar.hidden = false;
  $("skip").hidden = false;
  $("undo").disabled = !given.length;
  const field = work.querySelector("input[type=number]");
  (field || work.querySelector(".payload")).focus({ preventScroll: true });
  scrollTo(0, 0);
}

function next() {
  current = null;
  while (queue.length && queue[0].until <= Date.now()) queue.shift(); // somebody else may have it
  if (queue.length) show(queue.shift());
  else if (!empty) work.replaceChildren(element("p", { className: "empty", textContent: "Fetching tasks…" }));
  else nothing("open");
  if (queue.length < LOW && (!empty || !current)) fill();
}

function done(answer, words) {
  const task = current;
  given.push({ task, answer });
  if (given.length > 20) given.shift();
  answered += 1;
  $("mine").textContent = `${answered} answered now`;
  keep("answer", answer);
  say(words);
  next();
}

const said = (more) => ({
  task: current.task, assignment: current.assignment, lease_token: current.lease_token,
  key: key(), duration_ms: Math.min(Date.now() - shownAt, 2 ** 31 - 1), ...more,
});

function key() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is not there on plain http
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function submit() {
  const task = work.querySelector("form.task");
  if (!task) return;
  const value = new FormData(task).get("value");
  if (value && !touched && Date.now() - shownAt < DOUBLE) return; // it was chosen before anybody could look
  if (!value) {
    say(task.querySelector("input[type=number]") ? "Write a number first." : "Choose an answer first.");
    task.querySelector("input:not([type=hidden])").focus();
    return;
  }
  done(said({ value }), `Answered: ${value}.`);
}

function skip() {
  if (!current) return;
  const dialog = $("skipping");
  dialog.querySelector("form").reset();
  dialog.returnValue = "";
  dialog.showModal();
}

function undo() {
  const last = given.pop();
  if (!last) return say("There is nothing to take back.");
  answered -= 1;
  $("mine").textContent = `${answered} answered now`;
  const { task, assignment, lease_token, key } = last.answer;
  keep("undo", { task, assignment, lease_token, key });
  if (current) queue.unshift(current);
  last.task.until = Date.now() + HOLD; // in hand again; the next hold tells for how long
  show(last.task);
  const before = [...work.querySelectorAll("input[name=value]")];
  for (const input of before) if (input.type === "radio") input.checked = input.value === last.answer.value;
  if (before[0]?.type === "number" && last.answer.value) before[0].value = last.answer.value;
  say("Your last answer is taken back. Answer again.");
}

// --- holding and leaving -----------------------------------------------------------------------------------------------

const leases = () => [current, ...queue].filter(Boolean).map((task) => `${task.assignment}/${task.lease_token}`);

async function hold() {
  if (!leases().length || Date.now() - active > IDLE || unsent().length) return;
  try {
    const { seconds, lost, state } = await post("hold", { lease: leases() });
    if (state === "closed") return over();
    for (const task of [current, ...queue].filter(Boolean)) {
      if (seconds[task.assignment]) task.until = Date.now() + seconds[task.assignment] * 1_000;
    }
    for (let at = queue.length - 1; at >= 0; at--) if (lost.includes(queue[at].assignment)) queue.splice(at, 1);
    if (current && lost.includes(current.assignment) && !current.lost) {
      current.lost = true;
      alarm("This task is not reserved for you any more. You may still answer it: it counts if the task is not decided by then.", { calm: true });
    }
  } catch (error) {
    if (sessionOver(error)) signedOut(error);
  }
}

function leave() {
  if (leases().length) navigator.sendBeacon(`${base}/release`, form({ lease: leases() }));
}

// --- keys and buttons --------------------------------------------------------------------------------------------------

const SHORTCUTS = `perdure-shortcuts`;
const shortcuts = $("shortcuts");
shortcuts.checked = localStorage.getItem(SHORTCUTS) !== "off";
shortcuts.addEventListener("change", () => localStorage.setItem(SHORTCUTS, shortcuts.checked ? "on" : "off"));

let typed = "", typedAt = 0;
function choose(scope, digit) {
  const inputs = [...scope.querySelectorAll("input[type=radio]")];
  if (!inputs.length) return;
  let at = digit === "0" ? 9 : Number(digit) - 1;
  if (inputs.length > 10) { // a number of several digits
    typed = Date.now() - typedAt < 900 ? typed + digit : digit;
    typedAt = Date.now();
    if (Number(typed) > inputs.length) typed = digit;
    at = Number(typed) - 1;
  }
  if (!inputs[at]) return;
  inputs[at].checked = touched = true;
  inputs[at].focus({ preventScroll: true });
  inputs[at].closest("label").scrollIntoView({ block: "nearest" });
  say(`Chosen: ${inputs[at].value}.`);
}

addEventListener("keydown", (event) => {
  active = Date.now();
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.repeat && !event.target.matches("input")) return;
  const dialog = document.querySelector("dialog[open]");
  const typing = event.target.matches("input:not([type=radio], [type=checkbox], [type=number]), textarea");
  const on = shortcuts.checked;
  if (dialog) {
    if (on && !typing && /^[0-9]$/.test(event.key)) choose(dialog, event.key);
    return;
  }
  if (event.key === "Enter" && event.repeat) return event.preventDefault();
  if (event.key === "Enter" && work.contains(event.target) && !event.target.matches("button, summary, a")) submit();
  else if (event.key === "Enter" && event.target === document.body) submit();
  else if (!on || typing) return;
  else if (event.key === "?") $("help").showModal();
  else if (event.key.toLowerCase() === "s") skip();
  else if (event.key.toLowerCase() === "u") undo();
  else if (/^[0-9]$/.test(event.key) && !event.target.matches("input[type=number]")) return choose(work, event.key);
  else return;
  event.preventDefault();
});
addEventListener("pointerdown", () => { active = Date.now(); });
work.addEventListener("input", () => { touched = true; });
work.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
$("undo").addEventListener("click", undo);
$("skip").addEventListener("click", skip);
$("keys").addEventListener("click", () => $("help").showModal());
$("skipping").addEventListener("close", (event) => {
  if (event.target.returnValue !== "skip" || !current) return;
  const chosen = new FormData(event.target.querySelector("form"));
  const reason = String(chosen.get("words")).trim() || String(chosen.get("reason"));
  done(said({ skip: true, reason }), `Skipped: ${reason}.`);
});
addEventListener("pagehide", leave);
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
addEventListener("online", () => { send(); if (!current) fill(); });
addEventListener("beforeunload", (event) => { if (unsent().length && failures) event.preventDefault(); });
document.querySelector("form.who").addEventListener("submit", leave);
setInterval(hold, HOLD);
setInterval(() => { if (!current && Date.now() - active < 60 * 60_000) fill(); }, AGAIN);

await Promise.race([send(), pause(3_000)]); // first what was left over
fill(true);
