import { render } from "preact";
import "../styles/screen.css";
import { App, load } from "./app";
import { next_task } from "./tasks";
import { follow_links, here } from "./url";

follow_links();
void load(here.peek().page);
// A task of its own: what was loaded has taken one already.
void next_task().then(() => render(<App />, document.getElementById("app")!));
