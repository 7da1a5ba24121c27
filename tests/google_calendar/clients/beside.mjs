// Asks an emulator of Google and the sandbox the same, in turn, and prints both answers to each question.

const here = JSON.parse(process.env.BESIDE);
const { createEmulator } = await import(here.emulate);
const zone = "Europe/London";
const emulator = await createEmulator({
  service: "google",
  port: here.port,
  seed: {
    tokens: { [here.token]: { login: "ada@example.com", scopes: ["https://www.googleapis.com/auth/calendar"] } },
    google: {
      users: [{ email: "ada@example.com", name: "Ada Lovelace" }],
      calendars: [{ id: "ada@example.com", user_email: "ada@example.com", summary: "ada@example.com", primary: true, time_zone: zone }],
    },
  },
});

async function ask(address, method, path, body) {
  const headers = { authorization: `Bearer ${here.token}`, "content-type": "application/json" };
  const answer = await fetch(`${address}/calendar/v3/${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  return { status: answer.status, body: text ? JSON.parse(text) : null };
}

const told = {};
try {
  const made = [];
  async function both(name, method, path, body) {
    told[name] = [];
    for (const [side, address] of [emulator.url, here.address].entries()) {
      const answer = await ask(address, method, path.replace("{made}", made[side]), body);
      if (name === "insert") made[side] = answer.body.id;
      told[name].push(answer);
    }
  }
  const entries = "calendars/primary/events";
  const start = { dateTime: "2026-11-26T12:00:00Z" };
  const end = { dateTime: "2026-11-26T13:00:00Z" };
  await both("calendars", "GET", "users/me/calendarList");
  await both("day", "POST", entries, { summary: "Away", start: { date: "2026-12-24" }, end: { date: "2026-12-27" }, transparency: "transparent" });
  await both("insert", "POST", entries, { summary: "Lunch", location: "Here", start, end, attendees: [{ email: "grace@example.com" }] });
  await both("list", "GET", `${entries}?timeMin=2026-11-26T00:00:00Z&timeMax=2026-12-31T00:00:00Z&singleEvents=true&orderBy=startTime&q=a`);
  await both("window", "GET", `${entries}?timeMin=2026-11-26T12:30:00Z&timeMax=2026-11-26T12:45:00Z&singleEvents=true`);
  await both("words", "GET", `${entries}?q=lunch`);
  await both("delete", "DELETE", `${entries}/{made}`);
  await both("after", "GET", `${entries}?q=lunch`);
  await both("no entry", "DELETE", `${entries}/nothing0`);
  await both("no calendar", "GET", "calendars/nobody@example.com/events");
  await both("no start", "POST", entries, { summary: "x", end });
} finally {
  await emulator.close();
}
console.log(JSON.stringify(told));
