"""The words of the bundled corpus: plain tables of English-German lexical entries.

Tables only: `entries.py` reads them, inflection is in `english.py` and `german.py`, choice and word order in
`phrases.py` and `clauses.py`. Every English lemma has exactly one German counterpart and the other way round (a test
holds that), because the translation must be a function in both directions. Underscores stand for spaces inside a word;
semicolons or two spaces separate entries on one line.
"""

from __future__ import annotations

ENGLISH_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "policeman": "policemen", "saleswoman": "saleswomen",
    "mouse": "mice", "wolf": "wolves", "potato": "potatoes", "tomato": "tomatoes", "shelf": "shelves",
    "knife": "knives", "scarf": "scarves", "radio": "radios", "photo": "photos",
}

# english, German, gender, German plural; `weak` marks the n-declension.
NOUNS = {
    "person": """
        man Mann m Männer;            woman Frau f Frauen;           child Kind n Kinder
        boy Junge m Jungen weak;      girl Mädchen n Mädchen;        teacher Lehrer m Lehrer
        doctor Arzt m Ärzte;          student Student m Studenten weak; neighbour Nachbar m Nachbarn weak
        friend Freund m Freunde;      colleague Kollege m Kollegen weak; policeman Polizist m Polizisten weak
        nurse Krankenschwester f Krankenschwestern; waitress Kellnerin f Kellnerinnen
        actress Schauspielerin f Schauspielerinnen; saleswoman Verkäuferin f Verkäuferinnen
        singer Sänger m Sänger;       baker Bäcker m Bäcker;         gardener Gärtner m Gärtner
        farmer Bauer m Bauern weak;   tourist Tourist m Touristen weak; journalist Journalist m Journalisten weak
        painter Maler m Maler;        writer Schriftsteller m Schriftsteller; boss Chef m Chefs
        lawyer Anwalt m Anwälte;      engineer Ingenieur m Ingenieure; guest Gast m Gäste
        musician Musiker m Musiker;   princess Prinzessin f Prinzessinnen""",
    "family": """
        mother Mutter f Mütter;       father Vater m Väter;          brother Bruder m Brüder
        sister Schwester f Schwestern; son Sohn m Söhne;             daughter Tochter f Töchter
        uncle Onkel m Onkel;          aunt Tante f Tanten;           cousin Cousin m Cousins
        grandmother Großmutter f Großmütter; grandfather Großvater m Großväter; nephew Neffe m Neffen weak""",
    "animal": """
        dog Hund m Hunde;             cat Katze f Katzen;            horse Pferd n Pferde
        cow Kuh f Kühe;               bird Vogel m Vögel;            rabbit Kaninchen n Kaninchen
        duck Ente f Enten;            pig Schwein n Schweine;        goat Ziege f Ziegen
        donkey Esel m Esel;           mouse Maus f Mäuse""",
    "wild": """
        bear Bär m Bären weak;        lion Löwe m Löwen weak;        elephant Elefant m Elefanten weak
        monkey Affe m Affen weak;     wolf Wolf m Wölfe""",
    "food": """
        apple Apfel m Äpfel;          banana Banane f Bananen;       pear Birne f Birnen
        egg Ei n Eier;                cake Kuchen m Kuchen;          potato Kartoffel f Kartoffeln
        tomato Tomate f Tomaten;      roll Brötchen n Brötchen;      sausage Wurst f Würste
        strawberry Erdbeere f Erdbeeren; cherry Kirsche f Kirschen;  pancake Pfannkuchen m Pfannkuchen
        carrot Karotte f Karotten""",
    "dish": """
        soup Suppe f Suppen;          salad Salat m Salate;          pizza Pizza f Pizzen
        omelette Omelett n Omeletts""",
    "text": """
        book Buch n Bücher;           letter Brief m Briefe;         newspaper Zeitung f Zeitungen
        magazine Zeitschrift f Zeitschriften; novel Roman m Romane;  report Bericht m Berichte
        postcard Postkarte f Postkarten""",
    "tale": """
        story Geschichte f Geschichten; poem Gedicht n Gedichte;     article Artikel m Artikel""",
    "clothes": """
        coat Mantel m Mäntel;         shirt Hemd n Hemden;           dress Kleid n Kleider
        hat Hut m Hüte;               jacket Jacke f Jacken;         skirt Rock m Röcke
        sweater Pullover m Pullover;  scarf Schal m Schals;          blouse Bluse f Blusen
        suit Anzug m Anzüge;          tie Krawatte f Krawatten""",
    "vehicle": """
        car Auto n Autos;             bicycle Fahrrad n Fahrräder;   motorcycle Motorrad n Motorräder
        boat Boot n Boote;            truck Lastwagen m Lastwagen;   taxi Taxi n Taxis""",
    "transport": """
        bus Bus m Busse;              train Zug m Züge;              ship Schiff n Schiffe
        tram Straßenbahn f Straßenbahnen""",
    "machine": """
        computer Computer m Computer; radio Radio n Radios;          lamp Lampe f Lampen
        television Fernseher m Fernseher; washing_machine Waschmaschine f Waschmaschinen
        dishwasher Spülmaschine f Spülmaschinen; printer Drucker m Drucker""",
    "furniture": """
        table Tisch m Tische;         chair Stuhl m Stühle;          bed Bett n Betten
        sofa Sofa n Sofas;            desk Schreibtisch m Schreibtische; bench Bank f Bänke
        armchair Sessel m Sessel;     cupboard Schrank m Schränke;   shelf Regal n Regale
        carpet Teppich m Teppiche;    mirror Spiegel m Spiegel""",
    "thing": """
        key Schlüssel m Schlüssel;    bag Tasche f Taschen;          pencil Bleistift m Bleistifte
        umbrella Regenschirm m Regenschirme; ring Ring m Ringe;      picture Bild n Bilder
        map Landkarte f Landkarten;   gift Geschenk n Geschenke;     flower Blume f Blumen
        ball Ball m Bälle;            camera Kamera f Kameras;       watch Armbanduhr f Armbanduhren
        candle Kerze f Kerzen;        pillow Kissen n Kissen;        blanket Decke f Decken
        photo Foto n Fotos;           backpack Rucksack m Rucksäcke""",
    "dishes": """
        cup Tasse f Tassen;           plate Teller m Teller;         glass Glas n Gläser
        knife Messer n Messer;        fork Gabel f Gabeln;           spoon Löffel m Löffel
        pot Topf m Töpfe;             bowl Schüssel f Schüsseln""",
    "container": """
        bottle Flasche f Flaschen;    box Schachtel f Schachteln;    suitcase Koffer m Koffer
        drawer Schublade f Schubladen""",
    "opening": """
        door Tür f Türen;             window Fenster n Fenster;      gate Tor n Tore""",
    "building": """
        house Haus n Häuser;          castle Schloss n Schlösser;    church Kirche f Kirchen
        bridge Brücke f Brücken;      tower Turm m Türme;            museum Museum n Museen
        factory Fabrik f Fabriken;    apartment Wohnung f Wohnungen""",
    "site": """
        garden Garten m Gärten;       kitchen Küche f Küchen;        living_room Wohnzimmer n Wohnzimmer
        bedroom Schlafzimmer n Schlafzimmer; bathroom Badezimmer n Badezimmer; park Park m Parks
        town Stadt f Städte;          village Dorf n Dörfer;         forest Wald m Wälder
        station Bahnhof m Bahnhöfe;   market Markt m Märkte;         beach Strand m Strände
        library Bibliothek f Bibliotheken; office Büro n Büros;      restaurant Restaurant n Restaurants
        cinema Kino n Kinos;          theatre Theater n Theater;     hotel Hotel n Hotels
        school Schule f Schulen;      university Universität f Universitäten; airport Flughafen m Flughäfen
        hospital Krankenhaus n Krankenhäuser; supermarket Supermarkt m Supermärkte; lake See m Seen
        bakery Bäckerei f Bäckereien; bus_stop Haltestelle f Haltestellen; café Café n Cafés""",
    "task": """
        question Frage f Fragen;      answer Antwort f Antworten;    exercise Übung f Übungen
        problem Problem n Probleme;   sentence Satz m Sätze;         plan Plan m Pläne
        rule Regel f Regeln;          idea Idee f Ideen""",
    "event": """
        concert Konzert n Konzerte;   wedding Hochzeit f Hochzeiten; lesson Unterrichtsstunde f Unterrichtsstunden
        party Feier f Feiern;         exam Prüfung f Prüfungen;      meeting Sitzung f Sitzungen
        journey Reise f Reisen;       breakfast Frühstück n Frühstücke; film Film m Filme""",
}

# Nouns without plural or indefinite article.
MASS_NOUNS = {
    "eatable": """
        bread Brot n;  cheese Käse m;  meat Fleisch n;  rice Reis m;  chocolate Schokolade f;  fruit Obst n
        honey Honig m;  ham Schinken m;  fish Fisch m""",
    "drink": """
        water Wasser n;  milk Milch f;  coffee Kaffee m;  tea Tee m;  beer Bier n;  wine Wein m;  juice Saft m
        lemonade Limonade f""",
    "weather": """
        rain Regen m;  snow Schnee m;  weather Wetter n;  cold Kälte f;  heat Hitze f;  noise Lärm m""",
    "instrument": """
        piano Klavier n;  guitar Gitarre f;  violin Geige f;  flute Flöte f""",
}

GENITIVES = {
    "Chef": "Chefs", "Cousin": "Cousins", "Ingenieur": "Ingenieurs", "Schnee": "Schnees", "Lärm": "Lärms",
    "Film": "Films",
}
"""Genitives that the rule (`-es` after one syllable or a sibilant, else `-s`) misses or that are worth fixing."""

SINGULAR_ONLY = frozenset({"mother", "father", "grandmother", "grandfather", "breakfast"})
"""Countable nouns whose plural would sound odd with a possessive, as in "my mothers"."""

NAMES = {
    "f": "Anna Maria Lisa Julia Sarah Laura Emma Nina Eva Clara Mia Lena Sophie Charlotte",
    "m": "Paul Peter David Martin Daniel Simon Oliver Robert Ben Tom Jan Leon Anton Michael",
}
SURNAMES = "Weber Schmidt Becker Wagner Fischer Klein Hoffmann Keller"
CITIES = """Berlin Berlin; Hamburg Hamburg; Munich München; Vienna Wien; Cologne Köln; London London; Paris Paris
    Rome Rom; Zurich Zürich; Prague Prag; Dresden Dresden; Nuremberg Nürnberg; Warsaw Warschau; Leipzig Leipzig"""

# english, comparative, German, comparative, and the stem where endings change it.
ADJECTIVES = """
    old older alt älter;                     young younger jung jünger;          new newer neu neuer
    big bigger groß größer;                  small smaller klein kleiner;        long longer lang länger
    short shorter kurz kürzer;               fast faster schnell schneller;      slow slower langsam langsamer
    strong stronger stark stärker;           heavy heavier schwer schwerer;      cheap cheaper billig billiger
    expensive more_expensive teuer teurer teur; beautiful more_beautiful schön schöner
    friendly friendlier freundlich freundlicher; famous more_famous berühmt berühmter
    rich richer reich reicher;               poor poorer arm ärmer;              clever cleverer klug klüger
    happy happier glücklich glücklicher;     nice nicer nett netter;             polite politer höflich höflicher
    hungry - hungrig;                        tired - müde - müd;                 ill - krank
    warm warmer warm wärmer;                 cold colder kalt kälter;            fresh fresher frisch frischer
    sweet sweeter süß süßer;                 delicious - köstlich;               ripe riper reif reifer
    interesting more_interesting interessant interessanter; boring more_boring langweilig langweiliger
    exciting more_exciting spannend spannender; difficult more_difficult schwierig schwieriger
    simple simpler einfach einfacher;        important more_important wichtig wichtiger
    modern more_modern modern moderner;      quiet quieter ruhig ruhiger;        clean cleaner sauber sauberer
    dirty dirtier schmutzig schmutziger;     empty - leer;                       full - voll
    red - rot;                               green - grün;                       blue - blau
    yellow - gelb;                           black - schwarz;                    white - weiß
    brown - braun;                           grey - grau;                        German - deutsch
    English - englisch;                      French - französisch;               elegant more_elegant elegant eleganter
    thin thinner dünn dünner;                thick thicker dick dicker
    dangerous more_dangerous gefährlich gefährlicher
    hard-working more_hard-working fleißig fleißiger; lazy lazier faul fauler
    strange - seltsam;                       sad sadder traurig trauriger;       wild wilder wild wilder
    brave braver mutig mutiger;              dark darker dunkel dunkler dunkl
"""

COLOURS = "red green blue black white yellow brown grey"
# Which adjectives go with which kind of noun: attributively and as a predicate.
ADJECTIVES_OF = {
    "person": "old young friendly famous rich poor clever nice polite hard-working lazy brave happy sad strange",
    "family": "old young friendly clever nice",
    "animal": "old young small big brown white black grey lazy hungry strong clever",
    "wild": "old young big strong hungry dangerous wild",
    "food": "fresh ripe sweet delicious small big cheap",
    "dish": "warm cold delicious fresh cheap",
    "text": "interesting boring exciting thick thin new old important German English French",
    "tale": "interesting boring exciting long short new old German English French",
    "clothes": COLOURS + " new old expensive cheap warm elegant beautiful dark",
    "vehicle": COLOURS + " new old fast slow expensive cheap heavy modern",
    "transport": "new old fast slow modern empty full",
    "machine": "new old expensive cheap modern heavy",
    "furniture": COLOURS + " new old big small heavy expensive beautiful",
    "thing": COLOURS + " new old small big beautiful expensive cheap",
    "dishes": COLOURS + " new old small big clean dirty beautiful",
    "container": COLOURS + " old small big heavy empty full",
    "opening": COLOURS + " old small big heavy new",
    "building": "old new big small beautiful famous modern grey white",
    "site": "old new big small beautiful modern quiet",
    "task": "important difficult simple interesting strange new",
    "event": "long short interesting boring beautiful important exciting",
    "eatable": "fresh delicious expensive cheap",
    "drink": "cold warm fresh cheap delicious",
    "weather": "",
    "instrument": "",
}
UNSUITABLE = {
    "old": "child boy girl", "modern": "garden forest lake beach park village", "new": "forest lake beach",
    "young": "mother father grandmother grandfather", "thick": "postcard", "thin": "postcard",
    "ripe": "egg cake roll sausage pancake potato carrot", "sweet": "egg potato sausage tomato carrot",
}
"""Exceptions to the above: nouns that an adjective of their kind does not suit."""
NEVER_PREDICATED = "German English French"
STATES = "tired ill hungry happy sad"
"""Passing states of a person, for predicates and reasons."""

# The noun, English prepositions (where, where to), German prepositions (where, where to).
PLACES = """
    garden in into in in;          kitchen in into in in;         living_room in into in in
    bedroom in into in in;         bathroom in into in in;        park in to in in
    town in to in in;              village in to in in;           forest in into in in
    station at to an zu;           market at to auf zu;           beach on to an an
    library in to in in;           office in to in in;            restaurant in to in in
    cinema at to in in;            theatre at to in in;           hotel in to in in
    school at to in in;            university at to an zu;        airport at to an zu
    hospital in to in in;          supermarket in to in in;       lake at to an an
    bakery in to in zu;            bus_stop at to an zu;              café in to in in
    museum in to in in;            church in to in in
"""
PLACE_SETS = {
    "home": "garden kitchen living_room",
    "room": "living_room bedroom hotel",
    "outside": "garden park forest town beach lake village",
    "water": "lake beach",
    "public": "library office restaurant hotel school university hospital station airport café",
    "work": "library office restaurant hotel school university hospital supermarket bakery museum theatre",
    "shop": "town market",
    "shopping": "town market supermarket bakery",
    "animal": "garden forest beach village",
    "any": "garden kitchen living_room park town village station library office restaurant hotel school airport café",
    "eat": "garden kitchen living_room restaurant hotel café park office",
    "goal": """garden kitchen bedroom bathroom park town village forest station market beach library office restaurant
        cinema theatre hotel school university airport hospital supermarket lake bakery bus_stop museum church café""",
    "trip": "town village forest station market beach library office restaurant theatre hotel school university airport"
    " hospital supermarket lake bakery museum",
    "near": "garden kitchen park forest beach station school lake bus_stop bakery",
    "none": "",
}
PUNCTUAL = frozenset({"lose", "find", "forget", "break", "surprise", "hear", "see", "remember", "fall in love"})
"""Verbs that are odd in the English progressive: "is losing the key"."""

# English base [past participle] [+particle] | German infinitive, 3rd present, 3rd preterite, [ist] participle |
# objects | places
VERBS = {
    "accusative": """
        eat ate eaten | essen isst aß gegessen | food eatable dish | eat
        drink drank drunk | trinken trinkt trank getrunken | drink | eat
        read read read | lesen liest las gelesen | text tale | any
        write wrote written | schreiben schreibt schrieb geschrieben | letter novel report postcard tale | any
        buy bought bought | kaufen kauft kaufte gekauft | food eatable text clothes vehicle furniture thing | shop
        sell sold sold | verkaufen verkauft verkaufte verkauft | vehicle machine furniture clothes food | shop
        see saw seen | sehen sieht sah gesehen | person animal wild vehicle building | outside
        visit | besuchen besucht besuchte besucht | person family museum church castle factory hotel | none
        find found found | finden findet fand gefunden | thing clothes text | any
        lose lost lost | verlieren verliert verlor verloren | thing clothes | any
        look_for looked_for looked_for | suchen sucht suchte gesucht | thing clothes text animal | any
        forget forgot forgotten | vergessen vergisst vergaß vergessen | thing clothes text | any
        repair | reparieren repariert reparierte repariert | vehicle machine furniture | none
        clean | putzen putzt putzte geputzt | kitchen bathroom window mirror lamp bicycle | none
        paint | malen malt malte gemalt | building animal flower picture wild | outside
        cook | kochen kocht kochte gekocht | soup potato egg rice | kitchen
        bake | backen backt backte gebacken | cake roll pizza bread | none
        open | öffnen öffnet öffnete geöffnet | opening container letter gift umbrella | none
        close | schließen schließt schloss geschlossen | opening container umbrella | none
        wear wore worn | tragen trägt trug getragen | clothes ring watch | none
        wash | waschen wäscht wusch gewaschen | clothes vehicle dishes | none
        hear heard heard | hören hört hörte gehört | person animal wild story concert | outside
        ask | fragen fragt fragte gefragt | person family | none
        meet met met | treffen trifft traf getroffen | person family | public
        photograph | fotografieren fotografiert fotografierte fotografiert | person animal wild building | outside
        feed fed fed | füttern füttert fütterte gefüttert | animal wild | none
        watch | beobachten beobachtet beobachtete beobachtet | person animal wild | outside
        greet | grüßen grüßt grüßte gegrüßt | person family | public
        answer | beantworten beantwortet beantwortete beantwortet | question letter | none
        solve | lösen löst löste gelöst | problem exercise | none
        discuss | besprechen bespricht besprach besprochen | plan problem idea report question | work
        translate | übersetzen übersetzt übersetzte übersetzt | text tale sentence | none
        order | bestellen bestellt bestellte bestellt | dish drink sausage omelette cake | restaurant
        draw drew drawn | zeichnen zeichnet zeichnete gezeichnet | building animal flower map | outside
        hide hid hidden | verstecken versteckt versteckte versteckt | thing text | home
        play | spielen spielt spielte gespielt | instrument | home
        break broke broken | zerbrechen zerbricht zerbrach zerbrochen | dishes mirror bottle | none
        sign | unterschreiben unterschreibt unterschrieb unterschrieben | letter report postcard | none
        rent | mieten mietet mietete gemietet | vehicle apartment house | none
        pack | packen packt packte gepackt | suitcase backpack bag | none
        surprise | überraschen überrascht überraschte überrascht | person family | none
        praise | loben lobt lobte gelobt | person family | none
        disturb | stören stört störte gestört | person family | work
        invite | ein+laden lädt lud eingeladen | person family | none
        call | an+rufen ruft rief angerufen | person family | none
        pick picked picked +up | ab+holen holt holte abgeholt | person family | none
        turn turned turned +on | ein+schalten schaltet schaltete eingeschaltet | machine | none
        turn turned turned +off | aus+schalten schaltet schaltete ausgeschaltet | machine | none
        tidy tidied tidied +up | auf+räumen räumt räumte aufgeräumt | kitchen bedroom living_room office desk | none
        try tried tried +on | an+probieren probiert probierte anprobiert | clothes ring | none
        throw threw thrown +away | weg+werfen wirft warf weggeworfen | text dishes bottle box clothes | none
        give gave given +back | zurück+geben gibt gab zurückgegeben | text thing vehicle | none
        take took taken +along | mit+nehmen nimmt nahm mitgenommen | thing text clothes dog | none
        lock | ab+schließen schließt schloss abgeschlossen | door gate car house apartment drawer | none
        prepare | vor+bereiten bereitet bereitete vorbereitet | lesson party journey breakfast exam meeting | none
        cancel cancelled cancelled | ab+sagen sagt sagte abgesagt | concert wedding party meeting journey | none
        wake woke woken +up | auf+wecken weckt weckte aufgeweckt | person family dog | none
        read read read +aloud | vor+lesen liest las vorgelesen | text tale | room
    """,
    "dative": """
        help | helfen hilft half geholfen | person family | any
        thank | danken dankt dankte gedankt | person family | none
        follow | folgen folgt folgte ist gefolgt | person animal | outside
        congratulate | gratulieren gratuliert gratulierte gratuliert | person family | none
        contradict | widersprechen widerspricht widersprach widersprochen | person family | none
        listen_to listened_to listened_to | zu+hören hört hörte zugehört | person family | any
        run_after ran_after run_after | nach+laufen läuft lief ist nachgelaufen | animal | outside
    """,
    "ditransitive": """
        give gave given | geben gibt gab gegeben | thing text food drink dishes | any
        show showed shown | zeigen zeigt zeigte gezeigt | thing text clothes vehicle furniture building | none
        bring brought brought | bringen bringt brachte gebracht | drink food text dish gift flower | home
        lend lent lent | leihen leiht lieh geliehen | text vehicle umbrella suitcase backpack pencil camera | none
        send sent sent | schicken schickt schickte geschickt | letter postcard gift photo report book newspaper | none
        tell told told | erzählen erzählt erzählte erzählt | story | room
        offer | an+bieten bietet bot angeboten | drink food chair cake | none
    """,
    "prepositional": """
        wait for | warten wartet wartete gewartet | person family transport taxi | public | auf acc
        think thought thought of | denken denkt dachte gedacht | person family journey exam wedding | none | an acc
        talk about | sprechen spricht sprach gesprochen | text tale event problem plan person | any | über acc
        laugh at | lachen lacht lachte gelacht | story picture poem monkey | any | über acc
        dream of | träumen träumt träumte geträumt | house castle journey car horse wedding boat | none | von dat
        play with | spielen spielt spielte gespielt | animal ball child | outside | mit dat
        ask for | bitten bittet bat gebeten | drink answer gift key umbrella pillow blanket | none | um acc
        remember | sich erinnern erinnert erinnerte erinnert | person journey concert wedding film | none | an acc
        look_forward looked_forward looked_forward to | sich freuen freut freute gefreut | event | none | auf acc
        complain about | sich beschweren beschwert beschwerte beschwert | noise heat soup hotel | none | über acc
        take_part took_part taken_part in | teil+nehmen nimmt nahm teilgenommen | lesson exam meeting | none | an dat
        look after | auf+passen passt passte aufgepasst | child animal suitcase bag house | none | auf acc
        fall_in_love fell_in_love fallen_in_love with | sich verlieben verliebt verliebte verliebt | person || in acc
    """,
    "intransitive": """
        sleep slept slept | schlafen schläft schlief geschlafen | | room
        work | arbeiten arbeitet arbeitete gearbeitet | | work
        sing sang sung | singen singt sang gesungen | | any
        dance | tanzen tanzt tanzte getanzt | | any
        swim swam swum | schwimmen schwimmt schwamm ist geschwommen | | lake
        study studied studied | lernen lernt lernte gelernt | | work
        cry cried cried | weinen weint weinte geweint | | any
        wait | warten wartet wartete gewartet | | public
        rest | sich aus+ruhen ruht ruhte ausgeruht | | home
        get_up got_up got_up | auf+stehen steht stand ist aufgestanden | | none
        fall_asleep fell_asleep fallen_asleep | ein+schlafen schläft schlief ist eingeschlafen | | room
        watch_television watched_television watched_television | fern+sehen sieht sah ferngesehen | | room
        go_shopping went_shopping gone_shopping | ein+kaufen kauft kaufte eingekauft | | shopping
        go_for_a_walk went_for_a_walk gone_for_a_walk | spazieren_+gehen geht ging ist spazieren_gegangen | | outside
        have_breakfast had_breakfast had_breakfast | frühstücken frühstückt frühstückte gefrühstückt | | eat
        smile | lächeln lächelt lächelte gelächelt | | none
        hurry hurried hurried | sich beeilen beeilt beeilte beeilt | | none
        shave | sich rasieren rasiert rasierte rasiert | | bathroom
        hike | wandern wandert wanderte ist gewandert | | forest
    """,
    "motion": """
        go went gone | gehen geht ging ist gegangen | | goal
        drive drove driven | fahren fährt fuhr ist gefahren | | trip
        run ran run | laufen läuft lief ist gelaufen | | near
        come came come | kommen kommt kam ist gekommen | | goal
        return | zurück+kehren kehrt kehrte ist zurückgekehrt | | trip
        rush | eilen eilt eilte ist geeilt | | goal
    """,
    "travel": """
        fly flew flown | fliegen fliegt flog ist geflogen | | none
        travel travelled travelled | reisen reist reiste ist gereist | | none
        move | um+ziehen zieht zog ist umgezogen | | none
    """,
    "posture": """
        sit sat sat | sitzen sitzt saß gesessen | | any
        stand stood stood | stehen steht stand gestanden | | any
        lie lay lain | liegen liegt lag gelegen | | room
    """,
    "put": """
        put put put | legen legt legte gelegt | text key map gift photo pillow blanket ring scarf | none
    """,
    "state": """
        know knew known | kennen kennt kannte gekannt | person building novel story poem | none
        love | lieben liebt liebte geliebt | animal family person | none
        need | brauchen braucht brauchte gebraucht | thing clothes vehicle machine furniture | none
        have had had | haben hat hatte gehabt | thing clothes vehicle furniture animal machine | none
        like | mögen mag mochte gemocht | person family text tale site building animal eatable | none
        hate | hassen hasst hasste gehasst | noise heat cold rain snow | none
        understand understood understood | verstehen versteht verstand verstanden | task text tale person | none
    """,
}

MONTHS = """January Januar 31; February Februar 28; March März 31; April April 30; May Mai 31; June Juni 30
    July Juli 31; August August 31; September September 30; October Oktober 31; November November 30
    December Dezember 31"""
WEEKDAYS = """Monday Montag; Tuesday Dienstag; Wednesday Mittwoch; Thursday Donnerstag; Friday Freitag
    Saturday Samstag; Sunday Sonntag"""

FREQUENCIES = "often oft; always immer; never nie; sometimes manchmal; rarely selten; usually meistens"
TIMES = {
    "present": """today heute; now jetzt; right_now gerade; this_morning heute_Morgen; this_afternoon heute_Nachmittag
        this_evening heute_Abend""",
    "habit": """every_day jeden_Tag; every_morning jeden_Morgen; every_evening jeden_Abend; every_week jede_Woche
        every_afternoon jeden_Nachmittag""",
    "past": """yesterday gestern; yesterday_morning gestern_Morgen; yesterday_evening gestern_Abend
        last_week letzte_Woche; last_month letzten_Monat; last_year letztes_Jahr; last_summer letzten_Sommer
        last_winter letzten_Winter; yesterday gestern; the_day_before_yesterday vorgestern; recently neulich""",
    "future": """tomorrow morgen; tomorrow_morning morgen_früh; tomorrow_evening morgen_Abend; next_week nächste_Woche
        next_month nächsten_Monat; next_year nächstes_Jahr; next_summer nächsten_Sommer; soon bald
        the_day_after_tomorrow übermorgen; tomorrow morgen; this_evening heute_Abend""",
}
UNITS = "hours Stunden; days Tagen; weeks Wochen; months Monaten"
MANNERS = {
    "carefully vorsichtig": "open close drive wash clean repair pack",
    "quickly schnell": "eat drink write run read tidy wash",
    "slowly langsam": "eat drink read drive write",
}
LIKED = """eat drink read bake play photograph draw paint sing dance swim cook hike sleep go travel fly study work
    have_breakfast watch_television go_shopping go_for_a_walk"""
"""Verbs of "likes to", German `gern`."""
MENTAL = frozenset({"look forward", "dream", "think", "complain", "smile", "cry", "fall asleep"})
"""Verbs that no one has to, wants to or is allowed to."""
EVENTS = frozenset({"move", "rent", "sign", "return", "cancel"})
"""Verbs that do not happen every day."""
SINGULAR_OBJECTS = frozenset({"wear", "fall in love", "try", "solve"})
"""Verbs whose object is one."""
SOCIAL = frozenset({
    "sing", "dance", "swim", "work", "study", "hike", "go shopping", "go for a walk", "watch television",
    "have breakfast", "go", "drive", "run", "come", "return", "fly", "travel",
})
"""Verbs of things that are done with somebody, or alone."""
DEFINITE_OBJECTS = frozenset({"know", "love", "like", "understand", "remember", "hate"})
"""Verbs whose object is known."""
BENEFACTIVE = frozenset({"buy", "bake", "cook", "order", "draw", "find", "translate"})
"""Verbs of things that are done for somebody."""
ANIMAL_VERBS = "sleep lie sit stand"
"""Verbs whose subject may be an animal."""
