import { render } from "preact";
import "../styles/screen.css";
import { App } from "./app";
import { follow_links } from "./url";

follow_links();
render(<App />, document.getElementById("app")!);
