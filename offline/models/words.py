"""English words: those that say nothing about a text's subject, and some that often occur."""

_STOP = """
    a about above after again all also am an and any are as at be because been before being below between both but
    by can could did do does doing done down during each few for from further had has have having he her here hers him
    his how i if in into is it its just me might more most must my no nor not now of off on once only or other our out
    over own per same shall she should so some such than that the their them then there these they this those through
    to too under until up upon us very was we were what when where which while who whom whose why will with within
    without would yes you your tell give say explain describe please question answer according document text file
    many much long old new often name called made used using use"""

_COMMON = """
    able account act add age ago air alone along always animal appear area arm art ask away baby back bad ball bank
    base beautiful become bed begin behind believe best better big bird black blue board boat body book born box boy
    bread break bridge bright bring brother brown build building business buy call capital car care carry case catch
    cause center century certain change check child choose circle city class clean clear close cloud cold color come
    common company complete computer contain continue control cook cool copy corner correct cost cotton count country
    course cover cross cry current cut dark data day dead deal deep degree design develop die different difficult
    dinner direct distance divide doctor dog door draw dream dress drink drive dry early earth east easy eat edge
    effect egg eight electric end energy engine enough enter equal even evening event ever every exact example
    experience eye face fact fall family famous far farm fast father feel feet field fight figure fill final find fine
    finger finish fire first fish five floor flow flower fly follow food foot force forest form forward found four
    free fresh friend front fruit full game garden gas general girl glass go gold good govern grass great green ground
    group grow guess half hand happen happy hard hat head hear heart heat heavy help high hill history hold hole home
    hope horse hot hour house human hundred hunt hurry ice idea inch include increase industry instrument interest
    iron island job join keep key kind king know lady lake land language large last late laugh law lay lead learn
    leave left leg length less let letter level lie life lift light like line list listen little live local lone look
    lost lot loud love low machine main man map mark market match material matter mean measure meat meet member metal
    method middle mile milk million mind mine minute miss model modern moment money month moon morning mother motion
    mount mountain mouth move music nation natural nature near necessary need neighbor never next night nine noise
    north nose note nothing notice number object observe ocean offer office oil open opposite order oxygen page paint
    pair paper parent part party pass past path pattern pay people perhaps period person phrase picture piece place
    plain plan plane planet plant play point poor population port position possible post pound power practice prepare
    present press pretty price print private probable problem process produce product program property protect prove
    provide public pull push put quart quick quiet quite race radio rain raise ran range rather reach read ready real
    reason receive record red region remember repeat report represent require rest result rich ride right ring rise
    river road rock roll room root rope rose round row rule run safe sail salt sand save scale school science score
    sea search season seat second section see seed seem sell send sense sentence separate serve service set settle
    seven several shape share sharp sheet ship shop shore short shoulder show side sight sign silent silver similar
    simple sing single sister sit six size skill skin sky sleep slip slow small smell smile snow soft soil soldier
    solution solve song soon sound south space speak special speech speed spell spend spot spread spring square stand
    star start state station stay steam steel step stick still stone stop store story straight strange stream street
    stretch string strong student study subject success sudden sugar suit summer sun supply support sure surface
    surprise swim symbol system table tail take talk tall teach team temperature ten term test thank thick thin thing
    think third though thought thousand three through throw tie time tiny together token tone tool top total touch
    toward town track trade train travel tree triangle trip trouble truck true try tube turn twenty two type unit
    value vary verb view village visit voice vowel wait walk wall want war warm wash watch water wave way wear weather
    week weight west wheel white whole wide wife wild win wind window wing winter wire wish woman wonder wood word
    work world write wrong yard year yellow young hello"""

STOP_WORDS = frozenset(_STOP.split())
COMMON_WORDS = frozenset(_COMMON.split())
