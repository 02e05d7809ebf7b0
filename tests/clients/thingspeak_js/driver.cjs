// Calls npm's ThingSpeak client as it is told by a JSON array on standard input, whose first member are its options and
// whose others are [method, argument, ...]; one after the other. Writes what each callback got, [error, body].
"use strict";

const fs = require("node:fs");
const ThingSpeakClient = require("thingspeakclient");

const [options, ...calls] = JSON.parse(fs.readFileSync(0, "utf8"));
const client = new ThingSpeakClient(options);
const answers = [];

function next() {
  if (calls.length === 0) {
    process.stdout.write(JSON.stringify(answers));
    return;
  }
  const [method, ...given] = calls.shift();
  client[method](...given, (error, body) => {
    answers.push([error ? error.message : null, body === undefined ? null : body]);
    next();
  });
}

next();
