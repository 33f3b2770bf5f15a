// A form that is sent once: a second click before the answer does nothing.
"use strict";
for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}
// back by the browser's history: the form may be sent again
addEventListener("pageshow", () => document.querySelectorAll("form[data-once]").forEach((form) => delete form.dataset.sent));
// a decided approval that the address names is open
const named = location.hash && document.getElementById(location.hash.slice(1));
if (named && named.tagName === "DETAILS") named.open = true;
