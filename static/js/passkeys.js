// Forms that a passkey fills in. `data-passkey` is what the browser is asked for, "create" or "get";
// `data-options` is where the server says how. The answer travels in the hidden field `passkey`.

const decode = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));

const encode = (buffer) =>
  btoa(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(""))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

const decodeIds = (descriptors) => descriptors?.map((each) => ({ ...each, id: decode(each.id) }));

function readOptions({ publicKey }) {
  const options = { ...publicKey, challenge: decode(publicKey.challenge) };
  if (options.user) options.user = { ...options.user, id: decode(options.user.id) };
  if (options.excludeCredentials) options.excludeCredentials = decodeIds(options.excludeCredentials);
  if (options.allowCredentials) options.allowCredentials = decodeIds(options.allowCredentials);
  return { publicKey: options };
}

function writeAnswer(credential) {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (credential.response[name]) response[name] = encode(credential.response[name]);
  }
  return JSON.stringify({
    id: credential.id,
    rawId: encode(credential.rawId),
    type: credential.type,
    clientExtensionResults: credential.getClientExtensionResults(),
    response,
  });
}

const WORDS = {
  NotAllowedError: "Nothing was done: no passkey was given, or it took too long. Try again.",
  AbortError: "Nothing was done: no passkey was given. Try again.",
  InvalidStateError: "This device or key has a passkey for your account already.",
  SecurityError: "Passkeys do not work at this address.",
  NotSupportedError: "This device or key cannot make a passkey for this portal.",
};
const NO_PASSKEYS = "This browser does not know passkeys.";
const NO_ANSWER = "The server did not answer. Try again.";

class Refused extends Error {}

async function fetchOptions(form) {
  const answer = await fetch(form.dataset.options, {
    method: "POST",
    headers: { "X-CSRFToken": form.elements.csrf_token.value },
  });
  const isJson = answer.headers.get("Content-Type")?.startsWith("application/json");
  const said = isJson ? await answer.json() : {};
  if (!answer.ok || !said.publicKey) throw new Refused(said.message ?? NO_ANSWER);
  return readOptions(said);
}

async function fill(form) {
  if (!window.PublicKeyCredential) throw new Refused(NO_PASSKEYS);
  const options = await fetchOptions(form);
  const credential = form.dataset.passkey === "create"
    ? await navigator.credentials.create(options)
    : await navigator.credentials.get(options);
  form.elements.passkey.value = writeAnswer(credential);
}

function show(form, message) {
  const place = form.querySelector("[data-passkey-error]");
  place.textContent = message;
  place.hidden = !message;
}

async function ask(form) {
  const button = form.querySelector("button[type=submit]");
  show(form, "");
  button.setAttribute("aria-busy", "true");
  try {
    await fill(form);
    form.submit();
  } catch (error) {
    button.removeAttribute("aria-busy");
    show(form, error instanceof Refused ? error.message : WORDS[error.name] ?? NO_ANSWER);
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.passkey) return;
  event.preventDefault();
  if (!form.querySelector("[aria-busy]")) ask(form);
});
